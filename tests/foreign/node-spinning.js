// SPDX-License-Identifier: MIT
// A worker is in a synchronous loop that nothing ends: its messages wait behind it.
// "fixed": it answers instead.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

if (isMainThread) {
	const fixed = process.argv[2] === 'fixed';
	const entered = new Int32Array(new SharedArrayBuffer(4));
	const worker = new Worker(__filename, { workerData: { fixed, entered } });
	const look = setInterval(() => {
		if (Atomics.load(entered, 0) === 0)
			return;
		clearInterval(look);
		console.log(`hung pid=${process.pid}`);
	}, 50);
	worker.on('message', () => {
		clearInterval(look);
		console.log(`idle pid=${process.pid}`);
	});
	worker.postMessage('request');
} else {
	parentPort.on('message', (message) => {
		while (!workerData.fixed)
			Atomics.store(workerData.entered, 0, 1);
		parentPort.postMessage(message);
	});
}
