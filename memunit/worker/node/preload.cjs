'use strict';
// What memunit has Node load before the app, with --require. In the syntax of old versions, which are told what they lack.

var version = process.versions.node.split('.').map(Number);
if (version[0] < 18 || (version[0] === 18 && version[1] < 2)) {
  // 18.2 is the first with server.closeIdleConnections().
  console.error('memunit worker: this is Node ' + process.versions.node + ', and 18.2 is needed: say `node` in [app]');
  process.exit(78);
}
require('./start.cjs');
