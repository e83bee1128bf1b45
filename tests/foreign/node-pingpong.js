// SPDX-License-Identifier: MIT
// Nothing is wrong: a message goes to a worker and back, as often as the argument says (default: for ever).
// In the end both are idle. With "go" as second argument it begins when it gets SIGUSR2.
'use strict';
const { Worker, isMainThread, parentPort } = require('worker_threads');

if (isMainThread) {
	const count = Number(process.argv[2] || Infinity);
	const worker = new Worker(__filename);
	let answered = 0;
	worker.on('message', () => {
		if (++answered < count)
			worker.postMessage(answered);
		else
			console.log(`idle pid=${process.pid}\nsent=${answered} received=${answered}`);
	});
	worker.once('online', () => console.log(`ready pid=${process.pid}`));
	if (process.argv[3] === 'go')
		process.once('SIGUSR2', () => worker.postMessage(0));
	else
		worker.postMessage(0);
} else {
	parentPort.on('message', (message) => parentPort.postMessage(message));
}
