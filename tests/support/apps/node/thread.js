'use strict';
// A server in a worker thread: what its listen() says is printed, and the main thread serves.
const http = require('http');
const { Worker, isMainThread } = require('worker_threads');

const server = http.createServer((request, response) => response.end('ok'));
if (isMainThread) {
  new Worker(__filename).on('exit', () => server.listen(3000));
} else {
  server.on('error', (error) => console.log(`in the thread: ${error.message}`));
  server.listen(3000);
}
