'use strict';
// Garbage that V8 has not collected yet, and a cache that the app empties when it is asked to give memory back.

const http = require('http');

let cache = [];
process.on('memunit:give-back', () => {
  cache = [];
});

function fill(megabytes) {
  for (let each = 0; each < megabytes; each += 1) cache.push(Buffer.alloc(1 << 20, 1));
}

http
  .createServer((request, response) => {
    const url = new URL(request.url, 'http://x');
    if (url.pathname === '/fill') fill(Number(url.searchParams.get('mb')));
    const watched = process.env.MEMORY_PRESSURE_WATCH || '-';
    response.end(url.pathname === '/watch' ? `${watched} 1` : `ok ${process.pid}`);
  })
  .listen(8000);
