'use strict';
// A witness: V8 samples what this process allocates, from its start to its end, and what is still alive then is written
// as a .heapprofile, which the DevTools of Chrome open. It has names of functions, files and sizes, and no value.

const fs = require('fs');

const INTERVAL = 128 * 1024; // bytes between two samples, on the average
const MOST = 16 * 1024 * 1024; // bytes of the file

// `environment` loses the variable: no process that the app starts is a witness.
function take(environment) {
  const begin = environment.MEMUNIT_WITNESS;
  delete environment.MEMUNIT_WITNESS;
  return begin && `${begin}${process.pid}.heapprofile`;
}

function begin(path) {
  let session;
  try {
    const { Session } = require('inspector'); // a Node may be built without it
    session = new Session();
    session.connect();
    post(session, 'HeapProfiler.startSampling', { samplingInterval: INTERVAL });
  } catch (error) {
    say(`it can't be a witness: ${error.message}`);
    return;
  }
  // Before the app's own handlers of it: they may throw.
  process.prependListener('exit', () => {
    try {
      write(path, post(session, 'HeapProfiler.stopSampling').profile);
    } catch (error) {
      say(`its profile can't be written: ${error.message}`);
    }
  });
}

// In this thread's own session the answer is there when post() returns.
function post(session, method, parameters) {
  let failure;
  let result;
  session.post(method, parameters, (error, found) => {
    failure = error;
    result = found;
  });
  if (failure) throw new Error(failure.message);
  if (result === undefined) throw new Error(`${method} was not answered`);
  return result;
}

// Whole or not at all. A profile that is too long is kept without its samples, which only a timeline needs.
function write(path, profile) {
  let text = JSON.stringify(profile);
  if (text.length > MOST) text = JSON.stringify({ head: profile.head, samples: [] });
  if (text.length > MOST) throw new Error(`it has more than ${MOST} bytes`);
  const unfinished = `${path}.new`;
  fs.writeFileSync(unfinished, text, { mode: 0o600 });
  fs.renameSync(unfinished, path);
}

function say(text) {
  fs.writeSync(2, `memunit worker: ${text}\n`);
}

module.exports = { begin, take };
