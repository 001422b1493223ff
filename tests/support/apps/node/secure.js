'use strict';
// https, or HTTP/2 over TLS that allows HTTP/1.1, with a certificate of the environment.
const { readFileSync } = require('fs');

const options = { key: readFileSync(process.env.KEY), cert: readFileSync(process.env.CERT), allowHTTP1: true };
const answer = (request, response) => {
  const path = request.url;
  if (path === '/slow') setTimeout(() => response.end(`ok ${process.pid}`), 1000);
  else response.end(`ok ${process.pid}`);
};
const server =
  process.env.KIND === 'h2'
    ? require('http2').createSecureServer(options, answer)
    : require('https').createServer(options, answer);
server.listen(8443);
