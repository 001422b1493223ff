'use strict';
// Does what a request asks for, and at a stop what the environment says.
const fs = require('fs');
const http = require('http');

const kept = [];
const server = http.createServer((request, response) => {
  const [path, query] = request.url.split('?');
  const words = new URLSearchParams(query);
  const answer = () => response.end(`ok ${process.pid}`);
  if (path === '/held') fs.readFile(words.get('on'), answer); // a FIFO, in which somebody has written then
  else if (path === '/slow') setTimeout(answer, 1000 * words.get('s'));
  else if (path === '/hang') for (;;);
  else if (path === '/throw') throw new Error('nothing to sell');
  else if (path === '/leak') {
    kept.push(Buffer.alloc(1024 * words.get('kb'), 1));
    answer();
  } else if (path === '/body') {
    let size = 0;
    request.on('data', (block) => (size += block.length));
    request.on('end', () => response.end(`${size}`));
  } else if (path === '/stream') {
    const timer = setInterval(() => response.write('more\n'), 20);
    response.on('close', () => {
      clearInterval(timer);
      console.log('the stream was closed');
    });
  } else answer();
});

if (process.env.WS) {
  const { WebSocketServer } = require('ws');
  new WebSocketServer({ server }).on('connection', (socket) => {
    socket.on('message', (data) => socket.send(`${data} ${process.pid}`));
    socket.on('close', (code) => console.log(`websocket closed with ${code}`));
  });
}
if (process.env.HANDLES) process.on('uncaughtException', (error) => console.log(`handled: ${error.message}`));
if (process.env.CLEAN) {
  process.on('memunit:drain', () => {
    console.log('drain begins');
    const time = 0.9 * server.keepAliveTimeout;
    setTimeout(() => console.log('most of the keep-alive time is over'), time).unref();
    if (process.env.CLEAN === 'throw') throw new Error('can not leave the queue');
  });
  process.on('memunit:clean', async () => {
    console.log('clean begins');
    await new Promise((resolve) => setImmediate(resolve));
    if (process.env.CLEAN === 'throw') throw new Error('can not clean');
    console.log('clean ended');
  });
}
if (process.env.TERM_HANDLER) {
  process.on('SIGTERM', () => {
    server.close((error) => {
      console.log(`the app has closed: ${error}`);
      process.exit(error ? 1 : 0);
    });
  });
}
if (process.env.KEEP_ALIVE) server.keepAliveTimeout = Number(process.env.KEEP_ALIVE);
const listen = process.env.LISTEN ? JSON.parse(process.env.LISTEN) : [3000];
server.listen(...listen, () => console.log(`listening on ${JSON.stringify(server.address())}`));
if (process.env.SECOND) {
  const second = http.createServer((request, response) => response.end('second'));
  second.listen(...JSON.parse(process.env.SECOND), () => console.log(`second on ${JSON.stringify(second.address())}`));
}
