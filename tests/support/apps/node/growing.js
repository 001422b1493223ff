'use strict';
// Keeps objects on V8's heap, by a function with a name.
const http = require('http');

const visitors = [];

function rememberVisitor() {
  for (let i = 0; i < 20000; i += 1) visitors.push({ number: i, name: `visitor ${visitors.length}`, seen: [i] });
}

http
  .createServer((request, response) => {
    if (request.url === '/remember') rememberVisitor();
    if (request.url === '/exit') process.exit(3);
    response.end(`ok ${process.pid}`);
  })
  .listen(8000);
