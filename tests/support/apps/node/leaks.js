'use strict';
// Each path leaves something else behind.
const http = require('http');

const kept = [];
const LEAKS = {
  '/objects': () => kept.push(Array.from({ length: 800000 }, (_, number) => ({ number, name: `item ${number}` }))),
  '/buffers': () => kept.push(Buffer.alloc(48 << 20, 1)),
  '/garbage': () => Array.from({ length: 600000 }, (_, number) => ({ number, name: `item ${number}` })).length,
  '/timers': () => {
    for (let number = 0; number < 1000; number += 1) kept.push(setInterval(() => {}, 1 << 30));
    kept.push(Buffer.alloc(8 << 20, 1));
  },
  '/nothing': () => {},
};

http
  .createServer((request, response) => {
    (LEAKS[request.url] || LEAKS['/nothing'])();
    response.end(`ok ${process.pid}`);
  })
  .listen(3000);
