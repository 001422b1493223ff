'use strict';
// No HTTP: each line comes back.
const net = require('net');

const server = net.createServer((socket) => {
  socket.on('error', () => {});
  socket.pipe(socket);
});
process.on('memunit:drain', () => console.log('drain begins'));
server.listen('/run/nowhere/echo.sock', () => console.log(`listening on ${JSON.stringify(server.address())}`));
