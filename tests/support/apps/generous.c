/* A worker on sd-event(3), for the booted tests: memory pressure is left to sd_event_trim_memory(), as most programs do.
   GET /fragment has it fill a heap of 80 MiB and free all but one block in twenty; each answer is "ok PID".
   libsystemd is looked up at run time: what builds this may have none that knows of memory pressure (254). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTENER = 3, BLOCKS = 2600, LEAST = 1 << 10, SPREAD = 60 << 10, EACH = 20, UNKNOWN = 69 };
typedef int (*io_handler)(void *source, int fd, uint32_t events, void *data);
static void *kept[BLOCKS];

static void *symbol(const char *name)
{
    static void *library;
    if (!library)
        library = dlopen("libsystemd.so.0", RTLD_NOW);
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) {
        fprintf(stderr, "libsystemd has no %s\n", name);
        _exit(UNKNOWN);
    }
    return found;
}

static void fragment(void)
{
    for (int i = 0; i < BLOCKS; i++) {
        size_t size = LEAST + (size_t)rand() % SPREAD;
        free(kept[i]);
        kept[i] = malloc(size);
        if (kept[i])
            memset(kept[i], 1, size);
    }
    for (int i = 0; i < BLOCKS; i++)
        if (i % EACH) {
            free(kept[i]);
            kept[i] = NULL;
        }
}

static int serve(void *source, int listener, uint32_t events, void *data)
{
    char text[256], request[4096];
    (void)source, (void)events, (void)data;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return 0;
    if (read(fd, request, sizeof request) > 0) {
        if (!memcmp(request, "GET /fragment", 13))
            fragment();
        int size = snprintf(text, sizeof text,
                            "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\nok %07d\n", 11, getpid());
        if (write(fd, text, (size_t)size) < 0)
            perror("write");
    }
    close(fd);
    return 0;
}

int main(void)
{
    int (*event_default)(void **) = symbol("sd_event_default");
    int (*add_io)(void *, void **, int, uint32_t, io_handler, void *) = symbol("sd_event_add_io");
    int (*add_signal)(void *, void **, int, void *, void *) = symbol("sd_event_add_signal");
    int (*add_pressure)(void *, void **, void *, void *) = symbol("sd_event_add_memory_pressure");
    int (*loop)(void *) = symbol("sd_event_loop");
    int (*notify)(int, const char *) = symbol("sd_notify");
    void *event = NULL;
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    if (event_default(&event) < 0 || add_io(event, NULL, LISTENER, EPOLLIN, serve, NULL) < 0 ||
        add_signal(event, NULL, SIGTERM, NULL, NULL) < 0)
        return 1;
    int added = add_pressure(event, NULL, NULL, NULL);
    if (added < 0) {
        fprintf(stderr, "sd_event_add_memory_pressure: %s\n", strerror(-added));
        return 1;
    }
    notify(0, "READY=1");
    return loop(event) < 0;
}
