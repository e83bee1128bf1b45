// SPDX-License-Identifier: MIT
// Atomics.wait() in a callback: of the main thread, or of a worker ("main" or "worker").
// The other side never calls Atomics.notify(). "fixed": there is no wait.
'use strict';
const fs = require('fs');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

// Whether all threads but one sleep. Console output of a worker goes through the main thread, so both write themselves.
function othersAsleep() {
	const running = fs.readdirSync('/proc/self/task').filter((tid) => {
		const stat = fs.readFileSync(`/proc/self/task/${tid}/stat`, 'latin1');
		return !stat.slice(stat.lastIndexOf(')') + 2).startsWith('S');
	});
	return running.length <= 1;
}

function monitor(entered) {
	let looks = 0;
	const look = setInterval(() => {
		looks = Atomics.load(entered, 0) === 1 && othersAsleep() ? looks + 1 : 0;
		if (looks < 3)
			return;
		clearInterval(look);
		fs.writeSync(1, `hung pid=${process.pid}\n`);
	}, 50);
	return look;
}

function sleeper(port, word, entered) {
	port.on('message', (message) => {
		if (message !== 'request')
			return;
		if (word !== 'fixed') {
			Atomics.store(entered, 0, 1);
			Atomics.wait(entered, 0, 1);
		}
		port.postMessage('answer');
	});
}

function asker(port, entered) {
	const look = monitor(entered);
	port.on('message', (message) => {
		if (message !== 'answer')
			return;
		clearInterval(look);
		fs.writeSync(1, `idle pid=${process.pid}\n`);
	});
	port.postMessage('request');
}

if (isMainThread) {
	const word = process.argv[2] || 'worker';
	const entered = new Int32Array(new SharedArrayBuffer(4));
	const worker = new Worker(__filename, { workerData: { word, entered } });
	if (word === 'main')
		sleeper(worker, word, entered);
	else
		asker(worker, entered);
} else if (workerData.word === 'main') {
	asker(parentPort, workerData.entered);
} else {
	sleeper(parentPort, workerData.word, workerData.entered);
}
