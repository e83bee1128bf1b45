/* SPDX-License-Identifier: MIT */
/* What stands around the picture: verdict, findings, notes, latencies, gaps. All text
 * is set as text, never as HTML. */
'use strict';

const WORST = 25, BINS_PER_DECADE = 5;

/* make('p', { class: 'dim' }, 'text', element, ...) */
function make(tag, attributes = {}, ...children) {
	const element = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes))
		element.setAttribute(name, value);
	element.append(...children);
	return element;
}

const byId = id => document.getElementById(id);
const plural = (n, word) => `${n.toLocaleString('en')} ${word}${n === 1 ? '' : 's'}`;

/* --- verdicts and findings --------------------------------------------------------- */

function showVerdicts() {
	for (const [i, p] of names.processes.entries()) {
		const line = make('p', { class: `verdict ${p.verdict}` }, make('b', {}, p.verdict), p.sentence);
		if (names.processes.length > 1)
			line.prepend(make('span', { class: 'dim' }, `${processName(i)} `));
		byId('verdicts').append(line);
	}
}

function findingButton(f, i) {
	const where = names.processes.length > 1 ? ` · ${processName(f.process)}` : '';
	const button = make('button', { type: 'button', class: f.verdict, 'aria-current': 'false' },
		make('span', { class: 'number' }, String(i + 1)),
		make('span', {}, make('span', { class: 'rule' }, f.rule), ` (${f.confidence}): ${f.line}${where}`),
		make('span', { class: 'detail' }, f.detail));
	button.addEventListener('click', () => goToFinding(i, true));
	return make('li', {}, button);
}

function showFindings() {
	byId('findings-section').hidden = !names.findings.length;
	byId('findings').append(...names.findings.map(findingButton));
	byId('previous').disabled = byId('next').disabled = !names.findings.length;
}

/* --- what is missing ----------------------------------------------------------------- */

function lossNote(p, i) {
	const many = names.processes.length > 1 ? `${processName(i)}: ` : '';
	const count = p.lost ? plural(p.lost, 'event') : 'An unknown number of events';
	return `${many}${count} lost (${p.loss}). What is hatched, or before this picture, may lack events; ` +
		'no arrow crosses it.';
}

function omitted() {
	const total = names.before + names.events + names.after, notes = [], count = n => n.toLocaleString('en');
	if (names.before || names.after)
		notes.push(`Shown are ${count(names.events)} of ${plural(total, 'event')}, from ` +
			`${moment(names.begin)} to ${moment(names.end)}` +
			`${names.finding ? `, what is near finding ${names.finding} and of its process` : ''}: ` +
			`${count(names.before)} before and ${count(names.after)} after are left out.` +
			`${names.full ? ' The page has no room for more.' : ''}` +
			' --since, --until and --around choose another part.');
	return notes;
}

function showNotes() {
	const list = byId('notes');
	for (const note of omitted())
		list.append(make('li', { class: 'loss' }, note));
	for (const [i, p] of names.processes.entries()) {
		if (p.loss)
			list.append(make('li', { class: 'loss' }, lossNote(p, i)));
		for (const note of p.notes)
			list.append(make('li', {}, note));
	}
	byId('notes-section').hidden = !list.children.length;
}

/* --- latencies ------------------------------------------------------------------------ */

/* Of the gaps, which are sorted with the longest first. */
function percentile(share) {
	const n = gaps.urgent.length, rank = Math.max(Math.ceil(share * n), 1);
	return gaps.ns[gaps.urgent[n - rank]];
}

function bins() {
	const count = new Map();
	for (const i of gaps.urgent) {
		const bin = Math.floor(Math.log10(Math.max(gaps.ns[i], 1)) * BINS_PER_DECADE + 1e-9);
		count.set(bin, (count.get(bin) || 0) + 1);
	}
	const keys = [...count.keys()], first = Math.min(...keys), last = Math.max(...keys);
	return Array.from({ length: last - first + 1 }, (_, k) => ({ bin: first + k, count: count.get(first + k) || 0 }));
}

const binStart = bin => 10 ** (bin / BINS_PER_DECADE);

function svg(tag, attributes, ...children) {
	const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
	for (const [name, value] of Object.entries(attributes))
		element.setAttribute(name, value);
	element.append(...children);
	return element;
}

/* Both axes are logarithmic: a single slow one must be visible beside thousands. */
function histogram() {
	const list = bins(), width = 330, height = 180, left = 44, bottom = 24, top = 8;
	const most = Math.max(...list.map(b => b.count)), step = (width - left - 16) / list.length;
	const room = height - top - bottom, level = n => (Math.log10(n) + .3) / (Math.log10(most) + .3);
	const y = n => n ? top + room * (1 - level(n)) : height - bottom;
	const what = `${plural(gaps.urgent.length, 'gap')} from ${duration(percentile(0))} to ${duration(percentile(1))}`;
	const shape = { viewBox: `0 0 ${width} ${height}`, role: 'img' };
	const picture = svg('svg', { ...shape, 'aria-label': `Histogram of ${what}` });
	for (let n = 1; n <= most; n *= 10) {
		picture.append(svg('line', { x1: left, x2: width, y1: y(n), y2: y(n) }),
			svg('text', { x: left - 5, y: y(n) + 4, 'text-anchor': 'end' }, n.toLocaleString('en')));
	}
	const labelled = BINS_PER_DECADE * Math.ceil(46 / (step * BINS_PER_DECADE));
	for (const [k, b] of list.entries()) {
		const x = left + k * step, tall = height - bottom - y(b.count);
		const title = `${duration(binStart(b.bin))} to ${duration(binStart(b.bin + 1))}: ${b.count}`;
		const bar = { x: x + .5, width: Math.max(step - 1, 1), y: y(b.count), height: tall };
		picture.append(svg('rect', bar, svg('title', {}, title)));
		if (b.bin % labelled === 0)
			picture.append(svg('text', { x, y: height - 8 }, duration(binStart(b.bin))));
	}
	picture.append(svg('line', { x1: left, x2: width, y1: height - bottom, y2: height - bottom }));
	return picture;
}

function showLatency() {
	if (!gaps.urgent.length) {
		byId('percentiles').append('No schedule and its execution are both in this picture.');
		return;
	}
	byId('percentiles').append(...[['median', .5], ['90 %', .9], ['99 %', .99], ['longest', 1]].map(([label, share]) =>
		make('span', {}, make('span', { class: 'dim' }, `${label} `), duration(percentile(share)))),
		make('span', { class: 'dim' }, plural(gaps.urgent.length, 'gap')));
	byId('histogram').append(histogram());
}

/* --- the longest gaps ------------------------------------------------------------------ */

function gapRow(i) {
	const from = arrows.schedule[i], via = arrows.notify[i], to = arrows.execute[i], object = events.object[from];
	const lane = lanesByIndex[events.lane[from]], told = via === NONE ? null : events.ns[via];
	const button = make('button', { type: 'button', title: 'Show it' }, aligned(gaps.ns[i]));
	const row = make('tr', {}, make('td', {}, button),
		...[objectName(object), objectName(loopOf(object)), moment(events.ns[from]),
			told === null ? 'none before' : aligned(told - events.ns[from]),
			aligned(events.ns[to] - (told ?? events.ns[from])),
			`${laneName(lane)} (${lane.tid})`].map(text => make('td', { title: text }, text)));
	row.addEventListener('click', () => goToGap(i));
	return row;
}

function showGaps() {
	byId('gaps').tBodies[0].append(...Array.from(gaps.urgent.subarray(0, WORST), gapRow));
}

/* --- legend ------------------------------------------------------------------------------ */

function legendItem(label, draw) {
	const ratio = window.devicePixelRatio || 1;
	const canvas = make('canvas', { width: 22 * ratio, height: 14 * ratio, 'aria-hidden': 'true' });
	const c = canvas.getContext('2d');
	c.scale(ratio, ratio);
	c.fillStyle = c.strokeStyle = colors.accent;
	draw(c);
	return make('li', {}, canvas, label);
}

function showLegend() {
	const fill = color => c => {
		c.fillStyle = color;
		c.fillRect(0, 0, 22, 14);
	};
	byId('legend').replaceChildren(
		legendItem('bottom half runs', fill(barColor(1))), legendItem('turn of the loop', fill(colors.turn)),
		legendItem('asleep', c => {
			fill(colors.sleep)(c);
			c.fillStyle = colors.sleepEdge;
			c.fillRect(0, 6, 22, 1);
		}),
		legendItem('events lost', fill(colors.hatching)),
		...Object.values(GLYPHS).map(g => legendItem(g.label, c => g.draw(c, 11, 7))));
}
