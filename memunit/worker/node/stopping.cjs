'use strict';
// SIGTERM: drain first, then 'memunit:clean', then the app's own handlers. And the same where the app itself has begun.

const signals = require('./signals.cjs');

// The last part of the grace, of which the master has told, is for an orderly end of what does not end by itself; in
// milliseconds since SIGTERM, as for a Python worker.
const SHARE = 0.2;
const MOST = 5000;

function bounds(environment) {
  const usec = environment.MEMUNIT_GRACE_USEC;
  if (!/^\d+$/.test(usec || '')) return { end: Infinity, leave: Infinity };
  const grace = Number(usec) / 1000;
  const share = Math.min(grace * SHARE, MOST);
  return { end: grace - share, leave: grace - share * 0.6 };
}

// process.emit is replaced for SIGTERM because no public interface puts one handler before those that the app adds, and
// theirs end the process: typically server.close(() => process.exit()), with no regard for what the drain waits for.
// Returns what stops this process without a signal, because the app has begun to end it: the app then has until nearly
// the end of the grace to do so, and SIGTERM is the end of that time.
function onTerm({ begin, drain, leave, examine = () => {}, say }) {
  const emit = process.emit;
  let stopping = false;
  let released = false;
  let hurry = () => {};

  async function stop(own) {
    stopping = true;
    begin();
    for (const listener of process.listeners('memunit:drain')) attempt(listener);
    const when = bounds(process.env);
    const begun = performance.now();
    const late = after(when.leave);
    const told = own ? new Promise((resolve) => (hurry = resolve)) : undefined;
    await Promise.race([drain(when), late]);
    await leave();
    // A server says that it is closed before its last connections do, in the next phase of the loop: the app's handlers
    // of that come first.
    await turn();
    await turn();
    examine((when.leave - (performance.now() - begun)) / 2);
    let status = 0;
    say("waiting for the app's memunit:clean");
    for (const listener of process.listeners('memunit:clean')) {
      try {
        await listener.call(process);
      } catch (error) {
        console.error(error);
        status = 1;
      }
    }
    if (own) {
      process.exitCode = process.exitCode || status;
      say("waiting for the app's own end");
      await Promise.race([late, told]);
    }
    release(status);
  }

  function begun(own) {
    if (stopping) return;
    stop(own).catch((error) => {
      console.error(error);
      process.exit(70);
    });
  }

  // The app's own handlers decide when the process ends, as they do without memunit; without one it ends here.
  function release(status) {
    released = true;
    // First, for a library that looks whether it is the only one that handles the signal.
    signals.release('SIGTERM');
    if (process.listenerCount('SIGTERM') === 0) process.exit(process.exitCode || status);
    process.exitCode = process.exitCode || status;
    say("waiting for the app's own handler of SIGTERM");
    emit.call(process, 'SIGTERM', 'SIGTERM', 15);
  }

  process.emit = function (event, ...rest) {
    if (event !== 'SIGTERM' || released) return emit.call(this, event, ...rest);
    begun(false);
    hurry();
    return true;
  };
  // Without a listener Node leaves the signal at its default, which ends the process.
  signals.hold('SIGTERM', () => {});
  return () => begun(true);
}

function attempt(listener) {
  try {
    listener.call(process);
  } catch (error) {
    console.error(error);
  }
}

function after(milliseconds) {
  return new Promise((resolve) => {
    if (milliseconds !== Infinity) setTimeout(resolve, milliseconds).unref();
  });
}

function turn() {
  return new Promise((resolve) => setImmediate(resolve));
}

module.exports = { onTerm };
