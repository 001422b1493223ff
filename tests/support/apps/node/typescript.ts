import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

const answer = (request: IncomingMessage, response: ServerResponse): void => {
  response.end('Hello World');
};

createServer(answer).listen(3000);
