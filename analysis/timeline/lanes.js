/* SPDX-License-Identifier: MIT */
/*
 * The picture of the threads. What is narrower than a pixel is summed up for each
 * pixel, so a frame takes as long as there are pixels, however many events.
 */
'use strict';

const STRIP = 16, GAP = 7, AXIS = 42, ARROWS_MAX = 300, CROWD = 60, GLYPHS_PER_PIXEL = 1 / 6;

const lanes = makeLanes();
const ROW = lanes.length > 6 ? 20 : 30;
const gaps = makeGaps();
const full = { begin: names.begin, end: Math.max(names.end, names.begin + 1) };
const view = { begin: full.begin, end: full.end, top: 0 };
const stage = { canvas: document.getElementById('lanes'), width: 0, height: 0, gutter: 150 };
let selected = null; /* an arrow */
let finding = -1;
let colors = {};

const barColor = index => `hsl(${(index * 137.5) % 360} ${colors.barSat} ${colors.barLight})`;

function readColors() {
	const style = getComputedStyle(document.documentElement);
	const wanted = ['card', 'line', 'text', 'dim', 'accent', 'bad', 'warn', 'turn', 'sleep', 'sleep-edge', 'hatch',
		'arrow', 'grid', 'bar-light', 'bar-sat', 'bar-text', 'selected'];
	colors = {};
	for (const name of wanted)
		colors[name.replace(/-(.)/, (_, c) => c.toUpperCase())] = style.getPropertyValue(`--${name}`).trim();
	colors.hatching = hatching();
}

/* For where events are missing. */
function hatching() {
	const tile = document.createElement('canvas'), c = tile.getContext('2d');
	tile.width = tile.height = 8;
	c.strokeStyle = colors.hatch;
	c.lineWidth = 1.4;
	for (const shift of [-8, 0, 8]) {
		c.moveTo(shift, 8);
		c.lineTo(shift + 8, 0);
	}
	c.stroke();
	return c.createPattern(tile, 'repeat');
}

/* --- where things are ------------------------------------------------------------ */

const plotWidth = () => Math.max(stage.width - stage.gutter, 1);
const scale = () => plotWidth() / (view.end - view.begin);
const xOf = ns => stage.gutter + (ns - view.begin) * scale();
const nsAt = x => view.begin + (x - stage.gutter) / scale();

function placeLanes() {
	let y = AXIS + GAP, process = -1;
	for (const lane of lanes) {
		if (names.processes.length > 1 && lane.process !== process)
			y += 18;
		process = lane.process;
		lane.y = y;
		lane.rows = (lane.depth + 1) * ROW;
		y += lane.rows + STRIP + GAP;
	}
	stage.content = y + 4;
}

const rowY = (lane, depth) => lane.y - view.top + depth * ROW;
const stripY = lane => lane.y - view.top + lane.rows + STRIP / 2;

/* --- spans ----------------------------------------------------------------------- */

/* Calls wide(x0, x1, span) for what is a pixel or more, narrow(x, share, span) for each
 * pixel with less, SHARE being how much of it is taken. */
function eachSpan(list, wide, narrow) {
	const left = stage.gutter, pixel = 1 / scale();
	let i = after(list.end, view.begin);
	while (i < list.begin.length && list.begin[i] < view.end) {
		const x0 = xOf(list.begin[i]), x1 = xOf(list.end[i]);
		if (x1 - x0 >= 1) {
			wide(Math.max(x0, left), Math.min(x1, stage.width), list.span[i]);
			i++;
			continue;
		}
		const x = Math.floor(x0), until = nsAt(x + 1);
		let next = after(list.begin, until, i);
		/* The last of them may be wide. */
		if (next - i > 1 && (list.end[next - 1] - list.begin[next - 1]) >= pixel)
			next--;
		next = Math.max(next, i + 1);
		narrow(Math.max(x, left), (list.sum[next] - list.sum[i]) / pixel, list.span[i]);
		i = next;
	}
}

function drawBand(c, list, y, height, color, edge) {
	eachSpan(list, (x0, x1) => {
		c.globalAlpha = 1;
		c.fillStyle = color;
		c.fillRect(x0, y, x1 - x0, height);
		if (edge && x1 - x0 > 3) {
			c.fillStyle = edge;
			c.fillRect(x0, y, 1, height);
		}
	}, (x, share) => {
		c.globalAlpha = Math.min(1, .25 + share);
		c.fillStyle = color;
		c.fillRect(x, y, 1, height);
	});
	c.globalAlpha = 1;
}

function drawSleeps(c, list, y) {
	drawBand(c, list, y, ROW - 1, colors.sleep, null);
	/* A line in the middle: at rest. */
	c.fillStyle = colors.sleepEdge;
	eachSpan(list, (x0, x1) => c.fillRect(x0, y + ROW / 2 - 1, x1 - x0, 1), () => {});
}

function drawBars(c, list, y) {
	eachSpan(list, (x0, x1, s) => {
		const object = events.object[spans.begin[s]], height = ROW - 5;
		c.fillStyle = barColor(object);
		c.fillRect(x0, y + 2, x1 - x0, height);
		if (spanHow(s) !== ENDED) {
			c.fillStyle = colors.bad;
			c.fillRect(x1 - 2, y + 2, 2, height);
		}
		if (x1 - x0 > 30) {
			c.save();
			c.beginPath();
			c.rect(x0, y, x1 - x0 - 3, ROW);
			c.clip();
			c.fillStyle = colors.barText;
			c.fillText(objectName(object), x0 + 4, y + ROW / 2);
			c.restore();
		}
	}, (x, share, s) => {
		c.globalAlpha = Math.min(1, .35 + share);
		c.fillStyle = barColor(events.object[spans.begin[s]]);
		c.fillRect(x, y + 2, 1, ROW - 5);
		c.globalAlpha = 1;
	});
}

function drawHatch(c, list, y, height) {
	const paint = (x0, x1) => {
		c.fillStyle = colors.hatching;
		c.fillRect(x0, y, Math.max(x1 - x0, 2), height);
	};
	eachSpan(list, paint, x => paint(x, x + 2));
}

/* --- points ------------------------------------------------------------------------ */

const GLYPHS = {
	effective: { label: 'schedule: set the flag', draw: (c, x, y) => triangle(c, x, y, true) },
	coalesced: { label: 'schedule: flag was set', draw: (c, x, y) => triangle(c, x, y, false) },
	written: { label: 'notify: wrote the eventfd', draw: (c, x, y) => diamond(c, x, y, true) },
	silent: { label: 'notify: did not', draw: (c, x, y) => diamond(c, x, y, false) },
	accept: { label: 'accept', draw: (c, x, y) => ring(c, x, y) },
	other: { label: 'other events', draw: (c, x, y) => { c.fillRect(x - .75, y - 5, 1.5, 10); } }
};

function triangle(c, x, y, filled) {
	c.beginPath();
	c.moveTo(x, y - 5);
	c.lineTo(x + 4.5, y + 4);
	c.lineTo(x - 4.5, y + 4);
	c.closePath();
	filled ? c.fill() : c.stroke();
}

function diamond(c, x, y, filled) {
	c.beginPath();
	c.moveTo(x, y - 5);
	c.lineTo(x + 4.5, y);
	c.lineTo(x, y + 5);
	c.lineTo(x - 4.5, y);
	c.closePath();
	filled ? c.fill() : c.stroke();
}

function ring(c, x, y) {
	c.beginPath();
	c.arc(x, y, 3.5, 0, 7);
	c.stroke();
}

function glyphOf(e) {
	switch (events.id[e]) {
	case 6: return events.bits[e] & 15 ? GLYPHS.coalesced : GLYPHS.effective;
	case ID.notify: return events.bits[e] >> 4 === 1 ? GLYPHS.written : GLYPHS.silent;
	case ID.accept: return GLYPHS.accept;
	default: return GLYPHS.other;
	}
}

function drawPoints(c, lane) {
	const y = stripY(lane), last = after(lane.pointNs, view.end);
	let i = after(lane.pointNs, view.begin);
	c.fillStyle = c.strokeStyle = colors.accent;
	c.lineWidth = 1.2;
	if (last - i <= plotWidth() * GLYPHS_PER_PIXEL) {
		for (; i < last; i++)
			glyphOf(lane.points[i]).draw(c, xOf(lane.pointNs[i]), y);
		return;
	}
	while (i < last) {
		const x = Math.floor(xOf(lane.pointNs[i])), next = Math.max(after(lane.pointNs, nsAt(x + 1), i), i + 1);
		const height = Math.min(STRIP - 4, 3 + 2 * Math.log2(next - i));
		c.globalAlpha = .6;
		c.fillRect(x, y - height / 2, 1, height);
		i = next;
	}
	c.globalAlpha = 1;
}

/* --- arrows -------------------------------------------------------------------------- */

let lanesByIndex = [];

function arrowVisible(i) {
	return events.ns[arrows.execute[i]] >= view.begin && events.ns[arrows.schedule[i]] <= view.end;
}

function executeY(e) {
	const lane = lanesByIndex[events.lane[e]];
	const depth = Math.max(spanDepthAt(lane, e), 0);
	return rowY(lane, depth) + ROW / 2;
}

/* The depth at which the span that event E begins is drawn. */
function spanDepthAt(lane, e) {
	return lane.kinds[EXECUTE].findIndex(list => {
		const i = after(list.begin, events.ns[e]) - 1;
		for (let k = i; k >= 0 && list.begin[k] === events.ns[e]; k--)
			if (spans.begin[list.span[k]] === e)
				return true;
		return false;
	});
}

/* Far outside, a canvas has no use for the exact place. */
const nearX = ns => Math.min(Math.max(xOf(ns), -1e4), stage.width + 1e4);

function drawArrow(c, i) {
	const from = arrows.schedule[i], via = arrows.notify[i], to = arrows.execute[i];
	const y0 = stripY(lanesByIndex[events.lane[from]]), y1 = executeY(to);
	const x0 = nearX(events.ns[from]), x1 = nearX(events.ns[to]), bend = Math.min(40, Math.abs(x1 - x0) / 2);
	const start = via === NONE ? x0 : nearX(events.ns[via]), up = y1 < y0 ? -1 : 1;

	c.beginPath();
	c.moveTo(x0, y0);
	c.lineTo(start, y0);
	c.bezierCurveTo(start + bend, y0, x1 - bend, y1 - up * 4, x1, y1 - up * 4);
	c.stroke();
	c.beginPath();
	c.moveTo(x1 + 1, y1 - up * 4);
	c.lineTo(x1 - 5, y1 - up * 4 - 3.5);
	c.lineTo(x1 - 5, y1 - up * 4 + 3.5);
	c.fill();
}

/* The longest; of many, not those that would be no more than upright lines. Gives
 * whether some were left out. */
function drawArrows(c) {
	const least = 6 / scale();
	let n = 0, k = 0;
	c.strokeStyle = c.fillStyle = colors.arrow;
	c.lineWidth = 1;
	c.globalAlpha = .75;
	for (; k < gaps.byLength.length && n < ARROWS_MAX; k++) {
		const i = gaps.byLength[k];
		if (n >= CROWD && gaps.ns[i] < least)
			break;
		if (arrowVisible(i)) {
			drawArrow(c, i);
			n++;
		}
	}
	c.globalAlpha = 1;
	if (selected !== null && arrowVisible(selected)) {
		c.strokeStyle = c.fillStyle = colors.selected;
		c.lineWidth = 2;
		drawArrow(c, selected);
	}
	return k < gaps.byLength.length;
}

/* --- findings ---------------------------------------------------------------------- */

function drawFinding(c, f, index) {
	const x0 = xOf(f.from), x1 = Math.max(xOf(f.to), x0 + 2), color = f.verdict === 'late' ? colors.warn : colors.bad;
	if (x1 < stage.gutter || x0 > stage.width)
		return;
	const left = Math.max(x0, stage.gutter), right = Math.min(x1, stage.width);
	c.globalAlpha = index === finding ? .14 : .07;
	c.fillStyle = color;
	c.fillRect(left, AXIS, right - left, stage.height - AXIS);
	c.globalAlpha = 1;
	const flag = Math.min(Math.max(x0, stage.gutter + 9), stage.width - 9);
	c.fillRect(left, AXIS - 2, right - left, 2);
	c.beginPath();
	c.arc(flag, AXIS - 11, 8, 0, 7);
	c.fill();
	c.fillStyle = colors.card;
	c.textAlign = 'center';
	c.fillText(String(index + 1), flag, AXIS - 10.5);
	c.textAlign = 'left';
	if (index === finding)
		drawWitnesses(c, f, color);
}

/* What was seen, said where it was; labels that would hide others are left out. */
function drawWitnesses(c, f, color) {
	const taken = new Map();
	for (const w of f.witnesses) {
		const lane = lanesByIndex[w.lane], x = xOf(w.ns);
		if (!lane || x < stage.gutter || x > stage.width)
			continue;
		const y = rowY(lane, 0);
		c.fillStyle = color;
		c.globalAlpha = w.key ? 1 : .5;
		c.fillRect(x - .75, y - 3, 1.5, lane.rows + STRIP + 3);
		c.globalAlpha = 1;
		const text = w.role || '', width = c.measureText(text).width;
		const at = x + width + 10 > stage.width ? x - width - 7 : x + 7;
		if (!text || (taken.get(lane) || 0) > at)
			continue;
		taken.set(lane, at + width + 8);
		c.fillStyle = colors.card;
		c.globalAlpha = .9;
		c.fillRect(at - 2, stripY(lane) - 7, width + 4, 14);
		c.globalAlpha = 1;
		c.fillStyle = color;
		c.fillText(text, at, stripY(lane));
	}
}

/* --- the axis ------------------------------------------------------------------------ */

function niceStep(ns) {
	const power = 10 ** Math.floor(Math.log10(ns));
	return [1, 2, 5, 10].map(f => f * power).find(step => step >= ns);
}

/* Ticks are labelled from a base, so that they stay short however far in it is. */
function axis() {
	const length = view.end - view.begin, step = Math.max(niceStep(length * 95 / plotWidth()), 1), unit = unitFor(step);
	const block = unit[1] * 1000, base = Math.floor(view.begin / block) * block;
	return { step, unit, base: unit[1] === 1e9 ? 0 : base };
}

function drawAxis(c) {
	const { step, unit, base } = axis(), digits = Math.max(0, -Math.floor(Math.log10(step / unit[1]) + 1e-9));
	c.fillStyle = colors.card;
	c.fillRect(0, 0, stage.width, AXIS);
	for (let k = Math.ceil(view.begin / step); k * step <= view.end; k++) {
		const x = xOf(k * step);
		c.fillStyle = colors.grid;
		c.fillRect(x, AXIS, 1, stage.height - AXIS);
		c.fillStyle = colors.dim;
		c.fillRect(x, 16, 1, 4);
		const label = `${((k * step - base) / unit[1]).toFixed(digits)} ${unit[0]}`;
		if (x + c.measureText(label).width < stage.width)
			c.fillText(base ? `+${label}` : label, x + 3, 9);
	}
	c.fillStyle = colors.card;
	c.fillRect(0, 0, stage.gutter, AXIS);
	c.fillStyle = colors.dim;
	if (base)
		c.fillText(`${duration(base, 12)}`, 6, 9);
}

/* --- names --------------------------------------------------------------------------- */

function clipped(c, text, x, y, width) {
	c.save();
	c.beginPath();
	c.rect(x, y - 12, width, 24);
	c.clip();
	c.fillText(text, x, y);
	c.restore();
}

function drawGutter(c) {
	let process = -1;
	c.fillStyle = colors.card;
	c.fillRect(0, AXIS, stage.gutter, stage.height - AXIS);
	for (const lane of lanes) {
		const y = rowY(lane, 0);
		if (names.processes.length > 1 && lane.process !== process) {
			c.fillStyle = colors.dim;
			c.fillText(processName(lane.process), 6, y - 12);
		}
		process = lane.process;
		c.fillStyle = colors.text;
		clipped(c, laneName(lane), 6, y + 9, stage.gutter - 12);
		c.fillStyle = colors.dim;
		if (lane.tid)
			clipped(c, String(lane.tid), 6, y + 24, stage.gutter - 12);
	}
	c.fillStyle = colors.line;
	c.fillRect(stage.gutter - 1, 0, 1, stage.height);
	c.fillRect(0, AXIS - 1, stage.width, 1);
}

/* --- all ----------------------------------------------------------------------------- */

function drawLane(c, lane) {
	const [turns, sleeps, executes, losses] = lane.kinds;
	c.fillStyle = colors.grid;
	c.fillRect(stage.gutter, lane.y - view.top + lane.rows + STRIP + 3, plotWidth(), 1);
	for (let depth = 0; depth <= lane.depth; depth++) {
		const y = rowY(lane, depth);
		if (turns[depth])
			drawBand(c, turns[depth], y, ROW - 1, colors.turn, colors.line);
		if (sleeps[depth])
			drawSleeps(c, sleeps[depth], y);
		if (executes[depth])
			drawBars(c, executes[depth], y);
	}
	if (losses[0])
		drawHatch(c, losses[0], lane.y - view.top, lane.rows + STRIP);
	/* What no thread in particular lost, any of them may have. */
	const all = lanes.find(l => l.process === lane.process && !l.tid);
	if (all && all !== lane && all.kinds[LOSS][0]) {
		c.globalAlpha = .3;
		drawHatch(c, all.kinds[LOSS][0], lane.y - view.top, lane.rows + STRIP);
		c.globalAlpha = 1;
	}
	drawPoints(c, lane);
}

/* Gives whether there are more arrows than are drawn. */
function drawStage() {
	const ratio = window.devicePixelRatio || 1, c = stage.canvas.getContext('2d');
	c.setTransform(ratio, 0, 0, ratio, 0, 0);
	c.font = '12px system-ui, "DejaVu Sans", sans-serif';
	c.textBaseline = 'middle';
	c.fillStyle = colors.card;
	c.fillRect(0, 0, stage.width, stage.height);
	drawAxis(c);
	c.save();
	c.beginPath();
	c.rect(stage.gutter, AXIS, plotWidth(), stage.height - AXIS);
	c.clip();
	for (const lane of lanes)
		if (lane.y - view.top < stage.height && rowY(lane, 0) + lane.rows + STRIP > 0)
			drawLane(c, lane);
	const more = drawArrows(c);
	c.restore();
	drawGutter(c);
	names.findings.forEach((f, i) => drawFinding(c, f, i));
	return more;
}
