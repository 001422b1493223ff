/* A leaking HTTP server as a memunit worker, on descriptor 3. Each connection has a thread and one request.
   GET / answers "ok PID"; GET /leak?kb=N first keeps N KiB for ever. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { LISTENER = 3, MOST = 64 };
static sem_t idle; /* threads that may still be started */
static volatile sig_atomic_t stopping, ping_due;
static int nowhere;

static void notify(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (!path || !*path || strlen(path) >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, strlen(path));
    if (*path == '@')
        to.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to, size) < 0)
        perror("notify");
    close(fd);
}

/* The signal interrupts a waiting accept(). An accept() that is about to begin finds no socket. So no connection is accepted
   and dropped, and the socket itself, which the siblings share, stays unchanged. */
static void stop(int signum)
{
    int before = errno;
    (void)signum;
    stopping = 1;
    dup2(nowhere, LISTENER);
    errno = before;
}

static void tick(int signum)
{
    (void)signum;
    ping_due = 1;
}

/* Sends a signal every quarter of the time: a tick just before a blocking call does not interrupt that call, and the loop
   sees it only after the next tick. The caller must send the pings. */
static void start_watchdog(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    unsigned long long quarter = usec ? strtoull(usec, NULL, 10) / 4 : 0;
    struct sigaction action = {.sa_handler = tick};
    struct itimerval every;
    if (!quarter || (pid && atol(pid) != (long)getpid()))
        return;
    every.it_interval.tv_sec = quarter / 1000000;
    every.it_interval.tv_usec = quarter % 1000000;
    every.it_value = every.it_interval;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    ping_due = 1; /* the watchdog begins with the first ping */
}

static void *serve(void *argument)
{
    int fd = (int)(long)argument;
    char head[8192], answer[256], body[64];
    size_t length = 0;
    ssize_t got;
    struct timeval patience = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    head[0] = 0;
    while (!strstr(head, "\r\n\r\n") && length < sizeof head - 1) {
        got = recv(fd, head + length, sizeof head - 1 - length, 0);
        if (got <= 0)
            goto end;
        head[length += got] = 0;
    }
    unsigned kb;
    if (sscanf(head, "GET /leak?kb=%u", &kb) == 1 && kb > 0 && kb <= 1024 * 1024) {
        char *kept = malloc(kb * 1024UL);
        if (kept)
            for (char *volatile page = kept; page < kept + kb * 1024UL; page += 1024)
                *page = 1;
    }
    int size = snprintf(body, sizeof body, "ok %d\n", (int)getpid());
    int whole = snprintf(answer, sizeof answer,
                         "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", size, body);
    send(fd, answer, whole, MSG_NOSIGNAL);
    /* A close() with unread bytes would send a reset, which might overtake the answer. */
    shutdown(fd, SHUT_WR);
    patience.tv_sec = 2;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (int reads = 0; reads < 64 && recv(fd, head, sizeof head, 0) > 0; reads++)
        ;
end:
    close(fd);
    sem_post(&idle);
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_handler = stop}; /* no SA_RESTART: accept() must return */
    sigset_t signals;
    pthread_attr_t detached;
    const char *sockets = getenv("LISTEN_FDS");
    if (!sockets || atoi(sockets) < 1) {
        fprintf(stderr, "no socket was passed: start this under memunit or a systemd socket unit\n");
        return 78;
    }
    nowhere = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sem_init(&idle, 0, MOST);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGALRM);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    sigaction(SIGTERM, &action, NULL);
    notify("READY=1");
    start_watchdog();
    while (!stopping) {
        pthread_t thread;
        if (sem_wait(&idle) < 0)
            continue;
        /* Only this loop sends pings, and no thread or handler: so a ping proves that this loop runs and that a thread is
           free. Silent clients can hold all threads for 10 s: workers.watchdog must be longer. */
        if (ping_due) {
            ping_due = 0;
            notify("WATCHDOG=1");
        }
        int fd = accept4(LISTENER, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            sem_post(&idle);
            continue;
        }
        /* Threads inherit the mask: only the main thread, which accepts, gets signals. */
        pthread_sigmask(SIG_BLOCK, &signals, NULL);
        if (pthread_create(&thread, &detached, serve, (void *)(long)fd) != 0)
            serve((void *)(long)fd);
        pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    }
    notify("STOPPING=1");
    for (int thread = 0; thread < MOST; thread++)
        while (sem_wait(&idle) < 0)
            ;
    return 0;
}
