'use strict';
// One HTTP/2 connection, for a test: each line of stdin is a path, each line of stdout what came of it.
const http2 = require('http2');
const readline = require('readline');

const [, , target] = process.argv;
const session = http2.connect(`http://${target}`);
session.on('goaway', (code, last) => console.log(`goaway ${code} ${last === 2 ** 31 - 1 ? 'all' : last}`));
session.on('close', () => console.log('closed'));
session.on('error', (error) => console.log(`session error ${error.message}`));
readline.createInterface({ input: process.stdin }).on('line', (path) => {
  const stream = session.request({ ':path': path });
  stream.setEncoding('utf8');
  let body = '';
  stream.on('data', (block) => (body += block));
  stream.on('end', () => console.log(`${path} ${body}`));
  stream.on('error', (error) => console.log(`${path} failed: ${error.message}`));
});
