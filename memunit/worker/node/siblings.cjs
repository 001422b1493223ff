'use strict';
// The processes that a cluster-mode app forks inside one worker. Each accepts for itself and drains for itself.

class Siblings {
  constructor(cluster) {
    this._cluster = cluster;
    this._leaving = [];
    this._listening = new Set();
    this.onListening = undefined; // called with the descriptor on which one of them listens
    this.onGone = undefined; // called when the last that has listened has gone: Node has closed the descriptor then
    // With round robin this process would accept for them, and hold connections that at its end nobody has.
    if (process.env.NODE_CLUSTER_SCHED_POLICY === undefined) cluster.schedulingPolicy = cluster.SCHED_NONE;
    cluster.on('listening', (worker, { fd }) => {
      if (typeof fd !== 'number') return;
      this._listening.add(worker.id);
      if (this.onListening) this.onListening(fd);
    });
    for (const event of ['disconnect', 'exit']) cluster.on(event, (worker) => this._left(worker.id));
  }

  _left(id) {
    if (this._listening.delete(id) && this._listening.size === 0 && this.onGone) this.onGone();
  }

  stop() {
    // An app forks another for each that ends. The new ones find this, and do not serve.
    process.env.MEMUNIT_STOPPING = '1';
    for (const worker of Object.values(this._cluster.workers || {})) {
      // Node keeps one that has exited there until its channel is closed too; its 'exit' does not come again.
      if (worker.isDead()) continue;
      this._leaving.push(new Promise((resolve) => worker.once('exit', resolve)));
      worker.process.kill('SIGTERM');
    }
  }

  ended() {
    return Promise.all(this._leaving);
  }
}

module.exports = { Siblings };
