'use strict';
// HTTP/2 without TLS: /slow answers when /go has been asked for.
const http2 = require('http2');

let waiting = [];
http2
  .createServer((request, response) => {
    if (request.url === '/slow') {
      waiting.push(response);
      return;
    }
    if (request.url === '/go') {
      for (const each of waiting) each.end(`slow ${process.pid}`);
      waiting = [];
    }
    response.end(`ok ${process.pid}`);
  })
  .listen(3000);
