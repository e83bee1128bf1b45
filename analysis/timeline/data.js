/* SPDX-License-Identifier: MIT */
/* The data of the page: columns of numbers, names, and what is looked up in them.
 * Times are nanoseconds since the recording's first event. */
'use strict';

const NONE = 0xffffffff;
const ID = { notify: 7, accept: 8, cut: 0xfd, loss: 0xfe };
const TURN = 0, SLEEP = 1, EXECUTE = 2, LOSS = 3;
const ENDED = 0, UNSEEN = 1, GOES_ON = 2;

function bytesOf(base64) {
	if (Uint8Array.fromBase64)
		return Uint8Array.fromBase64(base64);
	const binary = atob(base64), bytes = new Uint8Array(binary.length);
	for (let i = 0; i < binary.length; i++)
		bytes[i] = binary.charCodeAt(i);
	return bytes;
}

/* Takes a column out of the document. */
function column(id, Type) {
	const element = document.getElementById(id), bytes = bytesOf(element.textContent);
	element.remove();
	return new Type(bytes.buffer, 0, bytes.length / Type.BYTES_PER_ELEMENT);
}

const names = JSON.parse(document.getElementById('names').textContent);
const events = {
	ns: column('event-ns', Float64Array), value: column('event-value', BigUint64Array),
	object: column('event-object', Uint32Array), lane: column('event-lane', Uint32Array),
	half: column('event-half', Uint16Array), id: column('event-id', Uint8Array), bits: column('event-bits', Uint8Array)
};
const spans = {
	begin: column('span-begin', Uint32Array), end: column('span-end', Uint32Array),
	depth: column('span-depth', Uint8Array), kind: column('span-kind', Uint8Array)
};
const arrows = {
	schedule: column('arrow-schedule', Uint32Array), notify: column('arrow-notify', Uint32Array),
	execute: column('arrow-execute', Uint32Array)
};
const spanKind = i => spans.kind[i] & 3;
const spanHow = i => spans.kind[i] >> 2 & 3;
const spanEarly = i => spans.kind[i] >> 4 & 1;
const spanNs = i => events.ns[spans.end[i]] - events.ns[spans.begin[i]];

/* First index at or after FROM whose value is greater than X; the array ascends. */
function after(array, x, from = 0) {
	let step = 1, low = from, high = from;
	while (high < array.length && array[high] <= x) {
		low = high + 1;
		high += step;
		step *= 2;
	}
	high = Math.min(high, array.length);
	while (low < high) {
		const middle = (low + high) >>> 1;
		if (array[middle] <= x)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* --- lanes --------------------------------------------------------------------- */

/* Spans of one kind, one lane and one depth: they do not overlap. */
function spanList(indexes) {
	const n = indexes.length, list = { span: Uint32Array.from(indexes) };
	list.begin = new Float64Array(n);
	list.end = new Float64Array(n);
	list.sum = new Float64Array(n + 1); /* of the lengths before each */
	list.span.sort((a, b) => spans.begin[a] - spans.begin[b]);
	list.span.forEach((s, i) => {
		list.begin[i] = events.ns[spans.begin[s]];
		list.end[i] = events.ns[spans.end[s]];
		list.sum[i + 1] = list.sum[i] + list.end[i] - list.begin[i];
	});
	return list;
}

/* Edges of spans are seen as spans; what is left are points. */
const isPoint = id => id !== ID.cut && id !== ID.loss && !(id >= 9 && id <= 14);

function makeLanes() {
	const empty = index => ({ index, depth: 0, kinds: [[], [], [], []], points: [] });
	const lanes = names.lanes.map((lane, index) => ({ ...lane, ...empty(index) }));
	for (let s = 0; s < spans.begin.length; s++) {
		const lane = lanes[events.lane[spans.begin[s]]], kind = spanKind(s), depth = spans.depth[s];
		(lane.kinds[kind][depth] ||= []).push(s);
		lane.depth = Math.max(lane.depth, depth);
	}
	for (let e = 0; e < events.id.length; e++)
		if (isPoint(events.id[e]))
			lanes[events.lane[e]].points.push(e);
	for (const lane of lanes) {
		lane.kinds = lane.kinds.map(depths => Array.from(depths, d => spanList(d || [])));
		lane.points = Uint32Array.from(lane.points);
		lane.pointNs = Float64Array.from(lane.points, e => events.ns[e]);
		lane.polls = lane.kinds[TURN].length > 0 || lane.kinds[SLEEP].length > 0;
	}
	const seen = lanes.filter(lane => lane.points.length || lane.kinds.some(depths => depths.length));
	/* Loops first: they are what is looked for. */
	return seen.sort((a, b) => a.process - b.process || !a.tid - !b.tid || b.polls - a.polls || a.tid - b.tid);
}

/* --- gaps ---------------------------------------------------------------------- */

const IDLE = 1; /* kind of a schedule that waits on purpose */

/* The arrows with the longest first, and the gaps of those that do not wait on purpose. */
function makeGaps() {
	const n = arrows.schedule.length, ns = new Float64Array(n), byLength = new Uint32Array(n);
	for (let i = 0; i < n; i++) {
		ns[i] = events.ns[arrows.execute[i]] - events.ns[arrows.schedule[i]];
		byLength[i] = i;
	}
	byLength.sort((a, b) => ns[b] - ns[a]);
	return { ns, byLength, urgent: byLength.filter(i => events.bits[arrows.schedule[i]] >> 4 !== IDLE) };
}

/* --- words --------------------------------------------------------------------- */

const UNITS = [['s', 1e9], ['ms', 1e6], ['µs', 1e3], ['ns', 1]];
const unitFor = ns => UNITS.find(u => Math.abs(ns) >= u[1]) || UNITS[3];

function duration(ns, digits = 4) {
	const [unit, size] = unitFor(ns);
	return `${size === 1 ? Math.round(ns) : Number((ns / size).toPrecision(digits))} ${unit}`;
}

/* The same for a column of them. */
function aligned(ns) {
	const [unit, size] = unitFor(ns);
	return `${size === 1 ? Math.round(ns) : (ns / size).toFixed(2)} ${unit}`;
}

/* A place on the time axis, to the nanosecond. */
function moment(ns) {
	const rounded = Math.round(ns), whole = Math.floor(rounded / 1e9);
	const rest = String(rounded - whole * 1e9).padStart(9, '0');
	return `${whole}.${rest.replace(/(\d{3})(?=\d)/g, '$1 ')} s`;
}

function objectName(index) {
	const object = names.objects[index];
	return object ? object.name || object.addr : '?';
}

function loopOf(index) {
	const object = names.objects[index];
	return object ? object.loop < 0 ? index : object.loop : NONE;
}

function laneName(lane) {
	return lane.name || (lane.tid ? 'thread' : 'all threads');
}

function processName(process) {
	const p = names.processes[process];
	return `${p.command || 'process'} (${p.pid})${p.hostname ? ` on ${p.hostname}` : ''}`;
}

const eventName = id => names.schema[id]?.name || { [ID.loss]: 'loss' }[id] || `event ${id}`;

function slotValue(e, field) {
	const value = events.value[e];
	switch (field.slot) {
	case 'T0': return BigInt(events.bits[e] & 15);
	case 'T1': return BigInt(events.bits[e] >> 4);
	case 'HALF': return BigInt(events.half[e]);
	case 'LO': return value & 0xffffffffn;
	case 'HI': return value >> 32n;
	default: return value;
	}
}

function fieldText(e, field) {
	const value = slotValue(e, field);
	if (field.slot === 'LOOP')
		return objectName(loopOf(events.object[e]));
	if (field.slot === 'BH')
		return names.objects[events.object[e]]?.loop >= 0 ? objectName(events.object[e]) : 'none';
	if (field.words?.[Number(value)])
		return field.words[Number(value)];
	switch (field.kind) {
	case 'ptr': return `0x${value.toString(16)}`;
	case 'time': return moment(Number(value - BigInt(names.firstTick)) / names.ticksPerNs);
	case 'i32': return String(BigInt.asIntN(32, value));
	case 'i64': {
		const signed = BigInt.asIntN(64, value);
		return field.name !== 'timeout_ns' ? String(signed) : signed < 0 ? 'forever' : duration(Number(signed));
	}
	default: return field.name === 'took' ? duration(Number(value) / names.ticksPerNs) : String(value);
	}
}

/* [name, text] of each field of event E. */
function fields(e) {
	return (names.schema[events.id[e]]?.fields || [])
		.filter(f => f.slot !== 'TEXT')
		.map(f => [f.name, fieldText(e, f)]);
}
