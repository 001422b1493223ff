'use strict';
// The same small server for Node alone, under memunit, and under PM2.
const http = require('http');

http
  .createServer((request, response) => {
    response.end(`ok ${process.pid}`);
  })
  .listen(process.env.PORT || 3000, '127.0.0.1');
