'use strict';
// https, or HTTP/2 over TLS that allows HTTP/1.1, with a certificate of the environment; /held is answered after /go.
const { readFileSync } = require('fs');

const options = { key: readFileSync(process.env.KEY), cert: readFileSync(process.env.CERT), allowHTTP1: true };
const held = [];
const answer = (request, response) => {
  if (request.url === '/held') {
    held.push(response);
    return;
  }
  response.end(`ok ${process.pid}`);
  if (request.url === '/go') for (const each of held) each.end(`ok ${process.pid}`);
};
process.on('memunit:drain', () => console.log('drain begins'));
const server =
  process.env.KIND === 'h2'
    ? require('http2').createSecureServer(options, answer)
    : require('https').createServer(options, answer);
server.keepAliveTimeout = 600000;
server.listen(8443);
