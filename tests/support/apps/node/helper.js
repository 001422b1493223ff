'use strict';
// Forks a helper, which inherits the command line: it listens for itself, and SIGTERM ends it as ever.
const { fork } = require('child_process');
const http = require('http');

if (process.argv[2] === 'helper') {
  const own = http.createServer((request, response) => response.end('helper'));
  own.listen(0, '127.0.0.1', () => process.send(own.address().port));
} else {
  const helper = fork(__filename, ['helper']);
  helper.on('exit', (code, signal) => console.log(`the helper ended by ${signal}`));
  helper.on('message', (port) => {
    http
      .createServer((request, response) => {
        if (request.url === '/kill') {
          helper.kill();
          response.end();
          return;
        }
        http.get({ port, host: '127.0.0.1', agent: false }, (answer) => answer.pipe(response));
      })
      .listen(3000);
  });
}
