'use strict';
// A leaking HTTP server. Only its last lines are for memunit, which makes listen() use the inherited socket, and drains the
// server. GET / answers "ok PID". /leak?kb=N first keeps N KiB for ever (default 64). /slow?s=F answers after F seconds.

const http = require('http');

const kept = [];

// Input of a client must not cause an exception: an exception here ends the worker and all its requests.
const MOST_KB = 1024 * 1024;
const MOST_SECONDS = 60;
function number(word, most) {
  const value = Number(word);
  return value >= 0 && value <= most ? value : NaN;
}

const server = http.createServer((request, response) => {
  request.resume();
  const [path, query] = request.url.split('?', 2); // not by new URL(), which throws for "//"
  const words = new URLSearchParams(query);
  const answer = () => response.end(`ok ${process.pid}\n`);
  const kb = number(words.get('kb') || 64, MOST_KB);
  const seconds = number(words.get('s') || 1, MOST_SECONDS);
  if (Number.isNaN(kb + seconds)) {
    response.statusCode = 400;
    response.end(`kb: at most ${MOST_KB}; s: at most ${MOST_SECONDS}\n`);
    return;
  }
  if (path === '/leak') kept.push(Buffer.alloc(1024 * kb, 0xa5));
  if (path === '/slow') setTimeout(answer, 1000 * seconds);
  else answer();
});

server.listen(3000);

// memunit calls this when the last request has been answered, and awaits the result: flush, leave queues, deregister.
process.on('memunit:clean', async () => {
  console.error(`clean: ${process.pid} keeps ${kept.length} blocks`);
});
