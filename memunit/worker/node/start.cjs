'use strict';
// Which process this is: the worker itself, one of its cluster's, one of its threads, or a helper that only inherits
// the command line.

const { isMainThread } = require('worker_threads');
const inherited = require('./inherited.cjs');
const listening = require('./listening.cjs');

function start() {
  if (!isMainThread) {
    listening.refuse(inherited.describe(process.env));
    return;
  }
  if (process.send !== undefined && require('cluster').isWorker) {
    require('./clustered.cjs').start(inherited.describe(process.env));
    return;
  }
  const passed = inherited.take(process.env);
  if (passed.wrapped) {
    fail(
      `node runs as process ${process.pid}, and memunit started ${passed.wrapped}: a wrapper has to exec(2) node, ` +
        'or `node` in [app] to be the program itself'
    );
  }
  if (passed.own) require('./worker.cjs').start(passed.sockets);
}

function fail(text) {
  console.error(`memunit worker: ${text}`);
  process.exit(78);
}

try {
  start();
} catch (error) {
  if (!(error instanceof inherited.Unusable)) throw error;
  fail(error.message);
}
