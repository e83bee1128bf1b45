/* SPDX-License-Identifier: MIT */
/* What the reader does: moving, zooming, pointing, keys. */
'use strict';

const OVERVIEW_BINS = 1200, SHORTEST = 50; /* ns that the picture shows at least */
const overview = { canvas: byId('overview'), bins: new Float64Array(OVERVIEW_BINS) };
let pending = false;

/* --- the view ------------------------------------------------------------------------ */

function setView(begin, end) {
	const length = Math.min(Math.max(end - begin, SHORTEST), full.end - full.begin);
	const middle = (begin + end) / 2;
	view.begin = Math.min(Math.max(middle - length / 2, full.begin), full.end - length);
	view.end = view.begin + length;
	redraw();
}

function zoom(factor, at = (view.begin + view.end) / 2) {
	setView(at - (at - view.begin) * factor, at + (view.end - at) * factor);
}

function pan(share) {
	const shift = (view.end - view.begin) * share;
	const kept = Math.min(Math.max(shift, full.begin - view.begin), full.end - view.end);
	setView(view.begin + kept, view.end + kept);
}

function scrollLanes(pixels) {
	view.top = Math.min(Math.max(view.top + pixels, 0), Math.max(stage.content - stage.height, 0));
	redraw();
}

/* Shows [BEGIN, END] with something around it. */
function show(begin, end) {
	const margin = Math.max((end - begin) * .15, 1000);
	setView(begin - margin, end + margin);
}

/* Scrolls until the lanes are to be seen, the first of them at least. */
function reveal(wanted) {
	const seen = wanted.filter(Boolean).sort((a, b) => a.y - b.y);
	if (!seen.length)
		return;
	const top = seen[0].y, last = seen[seen.length - 1], bottom = last.y + last.rows + STRIP;
	if (bottom - view.top > stage.height)
		scrollLanes(bottom + GAP - stage.height - view.top);
	if (top - AXIS - GAP < view.top)
		scrollLanes(top - AXIS - GAP - view.top);
}

/* --- drawing ------------------------------------------------------------------------- */

function redraw() {
	if (pending)
		return;
	pending = true;
	requestAnimationFrame(() => {
		pending = false;
		const begun = performance.now(), more = drawStage();
		drawOverview();
		byId('stage').dataset.begin = view.begin;
		byId('stage').dataset.end = view.end;
		byId('stage').dataset.drawMs = performance.now() - begun;
		say(more);
	});
}

let said = 0;

/* Not at each frame: it is read aloud. */
function say(more) {
	clearTimeout(said);
	said = setTimeout(() => {
		const arrows = more ? '; of the arrows only the longest' : '', length = duration(view.end - view.begin);
		byId('status').textContent = `${moment(view.begin)} to ${moment(view.end)}, ${length}${arrows}`;
	}, 150);
}

function fitCanvas(canvas, width, height) {
	const ratio = window.devicePixelRatio || 1;
	canvas.width = Math.round(width * ratio);
	canvas.height = Math.round(height * ratio);
	canvas.style.height = `${height}px`;
}

function resize() {
	stage.width = stage.canvas.clientWidth;
	stage.gutter = stage.width < 600 ? 84 : 150;
	placeLanes();
	stage.height = Math.round(Math.min(Math.max(stage.content, 140), Math.max(window.innerHeight * .62, 260)));
	fitCanvas(stage.canvas, stage.width, stage.height);
	fitCanvas(overview.canvas, overview.canvas.clientWidth, 36);
	scrollLanes(0);
}

function countOverview() {
	const perBin = (full.end - full.begin) / OVERVIEW_BINS;
	for (const ns of events.ns)
		overview.bins[Math.min(Math.floor((ns - full.begin) / perBin), OVERVIEW_BINS - 1)]++;
	const most = overview.bins.reduce((a, b) => Math.max(a, b), 1);
	overview.bins = overview.bins.map(n => n && .15 + .85 * Math.log1p(n) / Math.log1p(most));
}

function drawOverview() {
	const canvas = overview.canvas, ratio = window.devicePixelRatio || 1, c = canvas.getContext('2d');
	const width = canvas.width / ratio, height = canvas.height / ratio, bin = width / OVERVIEW_BINS;
	const x = ns => (ns - full.begin) / (full.end - full.begin) * width;
	c.setTransform(ratio, 0, 0, ratio, 0, 0);
	c.fillStyle = colors.card;
	c.fillRect(0, 0, width, height);
	c.fillStyle = colors.sleepEdge;
	overview.bins.forEach((n, i) => c.fillRect(i * bin, height - n * (height - 6), bin + .3, height));
	for (const f of names.findings) {
		c.fillStyle = f.verdict === 'late' ? colors.warn : colors.bad;
		c.fillRect(x(f.from), 0, Math.max(x(f.to) - x(f.from), 2), 5);
	}
	const left = x(view.begin), right = Math.max(x(view.end), left + 3);
	c.fillStyle = c.strokeStyle = colors.accent;
	c.globalAlpha = .16;
	c.fillRect(left, 0, right - left, height);
	c.globalAlpha = 1;
	c.lineWidth = 1.5;
	c.strokeRect(left + .75, .75, Math.max(right - left - 1.5, 1.5), height - 1.5);
}

/* --- places to go to ------------------------------------------------------------------- */

function goToFinding(i, jump) {
	const f = names.findings[i];
	if (!f)
		return;
	finding = i;
	selected = null;
	byId('findings').querySelectorAll('button').forEach((b, k) => b.setAttribute('aria-current', String(k === i)));
	show(Math.max(f.from, full.begin), Math.min(f.to, full.end));
	reveal(f.witnesses.map(w => lanesByIndex[w.lane]));
	if (jump)
		bring();
	if (f.to < full.begin || f.from > full.end)
		byId('status').textContent = `Finding ${i + 1} lies outside of this picture.`;
}

function stepFinding(step) {
	const n = names.findings.length;
	if (n)
		goToFinding(finding < 0 && step < 0 ? n - 1 : (finding + step + n) % n, false);
}

function goToGap(i) {
	selected = i;
	show(events.ns[arrows.schedule[i]], events.ns[arrows.execute[i]]);
	reveal([lanesByIndex[events.lane[arrows.execute[i]]], lanesByIndex[events.lane[arrows.schedule[i]]]]);
	bring();
}

function bring() {
	byId('stage').scrollIntoView({ block: 'nearest' });
	stage.canvas.focus({ preventScroll: true });
}

/* --- pointing ---------------------------------------------------------------------------- */

function laneAt(y) {
	return lanes.find(lane => y >= lane.y - view.top && y < lane.y - view.top + lane.rows + STRIP);
}

function pointNear(lane, x) {
	const near = after(lane.pointNs, nsAt(x));
	const candidates = [near - 1, near].filter(i => i >= 0 && i < lane.points.length);
	const distance = i => Math.abs(xOf(lane.pointNs[i]) - x);
	const best = candidates.sort((a, b) => distance(a) - distance(b))[0];
	return best !== undefined && distance(best) <= 6 ? lane.points[best] : null;
}

function spanIn(list, x) {
	if (!list)
		return null;
	/* Two pixels of help for the thin ones. */
	const i = after(list.end, nsAt(x - 2));
	return i < list.begin.length && list.begin[i] <= nsAt(x + 2) ? list.span[i] : null;
}

/* What is at a place of the canvas: { event }, { span }, or nothing. */
function under(x, y) {
	const lane = x > stage.gutter && y > AXIS ? laneAt(y) : null;
	if (!lane)
		return null;
	if (y >= lane.y - view.top + lane.rows) {
		const e = pointNear(lane, x);
		if (e !== null)
			return { event: e };
	}
	const depth = Math.min(Math.max(Math.floor((y - rowY(lane, 0)) / ROW), 0), lane.depth);
	for (const kind of [EXECUTE, SLEEP, TURN]) {
		const s = spanIn(lane.kinds[kind][depth], x);
		if (s !== null)
			return { span: s };
	}
	const lost = spanIn(lane.kinds[LOSS][0], x);
	return lost === null ? null : { span: lost };
}

const END_NAMES = ['', 'not seen: this is where its thread was seen last', 'none: it goes on when the picture ends'];

function describeSpan(s) {
	const kind = spanKind(s), begin = spans.begin[s], end = spans.end[s], name = objectName(events.object[begin]);
	const title = [`turn of ${name}`, `sleep of ${name}`, `${name} runs`, 'events lost'][kind];
	const from = `${moment(events.ns[begin])}${spanEarly(s) ? ' or earlier' : ''}`;
	const lines = [['from', from], ['length', duration(spanNs(s))]];
	if (spanHow(s) !== ENDED)
		lines.push(['end', END_NAMES[spanHow(s)]]);
	if (kind === LOSS)
		return { title, lines: [...lines, ['events', String(events.value[end] || 'not known')]] };
	const told = new Set();
	for (const e of spanHow(s) === ENDED ? [begin, end] : [begin])
		for (const [name, text] of fields(e))
			if (!told.has(name) && !(e === end && name === 'begin')) {
				told.add(name);
				lines.push([name, text]);
			}
	return { title, lines };
}

function describe(what) {
	if (what.span !== undefined)
		return describeSpan(what.span);
	const e = what.event;
	return { title: eventName(events.id[e]), lines: [['at', moment(events.ns[e])], ...fields(e)] };
}

function point(x, y) {
	const tip = byId('tip'), what = under(x, y);
	tip.hidden = !what;
	if (!what)
		return;
	const { title, lines } = describe(what), lane = laneAt(y);
	tip.replaceChildren(make('b', {}, title), make('span', { class: 'dim' }, `${laneName(lane)} (${lane.tid})`),
		make('dl', {}, ...lines.flatMap(([name, text]) => [make('dt', {}, name), make('dd', {}, text)])));
	const left = x + 14 + tip.offsetWidth > stage.width ? Math.max(x - 14 - tip.offsetWidth, 0) : x + 14;
	tip.style.left = `${left}px`;
	tip.style.top = `${y + 16}px`;
}

const fingers = new Map();

function onPress(e) {
	fingers.set(e.pointerId, e);
	stage.canvas.setPointerCapture(e.pointerId);
	stage.canvas.classList.add('dragging');
}

function onMove(e) {
	const before = fingers.get(e.pointerId);
	if (!before) {
		if (e.pointerType === 'mouse')
			point(e.offsetX, e.offsetY);
		return;
	}
	byId('tip').hidden = true;
	if (fingers.size === 2) {
		const other = [...fingers.values()].find(f => f.pointerId !== e.pointerId);
		const was = Math.abs(before.offsetX - other.offsetX), is = Math.abs(e.offsetX - other.offsetX);
		if (was > 10 && is > 10)
			zoom(was / is, nsAt((e.offsetX + other.offsetX) / 2));
	} else {
		pan((before.offsetX - e.offsetX) / plotWidth());
		if (e.pointerType === 'mouse' && stage.content > stage.height)
			scrollLanes(before.offsetY - e.offsetY);
	}
	fingers.set(e.pointerId, e);
}

function onRelease(e) {
	fingers.delete(e.pointerId);
	stage.canvas.classList.toggle('dragging', fingers.size > 0);
	if (e.pointerType !== 'mouse')
		point(e.offsetX, e.offsetY);
}

function onWheel(e) {
	const unit = e.deltaMode === 1 ? 20 : e.deltaMode === 2 ? 200 : 1;
	e.preventDefault();
	if (Math.abs(e.deltaX) > Math.abs(e.deltaY) || e.shiftKey)
		pan((e.deltaX || e.deltaY) * unit / plotWidth());
	else
		zoom(Math.exp(e.deltaY * unit * .002), nsAt(Math.max(e.offsetX, stage.gutter)));
	byId('tip').hidden = true;
}

function onDoubleClick(e) {
	const what = under(e.offsetX, e.offsetY);
	if (what?.span !== undefined)
		show(events.ns[spans.begin[what.span]], events.ns[spans.end[what.span]]);
	else
		zoom(.25, nsAt(e.offsetX));
}

/* --- keys -------------------------------------------------------------------------------- */

const viewLength = () => view.end - view.begin;
const anywhere = {
	'+': () => zoom(.6), '=': () => zoom(.6), '-': () => zoom(1 / .6), _: () => zoom(1 / .6),
	f: () => setView(full.begin, full.end), n: () => stepFinding(1), p: () => stepFinding(-1),
	t: () => switchTheme(), '?': () => byId('help').showModal(), Escape: () => { byId('tip').hidden = true; }
};
/* Elsewhere these scroll the page. */
const inTimeline = {
	ArrowLeft: e => pan(e.shiftKey ? -.5 : -.1), ArrowRight: e => pan(e.shiftKey ? .5 : .1),
	ArrowUp: () => scrollLanes(-40), ArrowDown: () => scrollLanes(40),
	Home: () => setView(full.begin, full.begin + viewLength()), End: () => setView(full.end - viewLength(), full.end)
};

function onKey(e) {
	if (e.ctrlKey || e.altKey || e.metaKey || byId('help').open)
		return;
	const inside = document.activeElement === stage.canvas || document.activeElement === document.body;
	const action = anywhere[e.key] || (inside && inTimeline[e.key]);
	if (!action)
		return;
	e.preventDefault();
	action(e);
}

/* --- light and dark ------------------------------------------------------------------------ */

const dark = matchMedia('(prefers-color-scheme: dark)');
let theme = 'auto';

function applyTheme() {
	document.documentElement.dataset.theme = theme === 'auto' ? (dark.matches ? 'dark' : 'light') : theme;
	byId('theme').textContent = `Theme: ${theme}`;
	readColors();
	showLegend();
	redraw();
}

function switchTheme() {
	theme = { auto: 'light', light: 'dark', dark: 'auto' }[theme];
	applyTheme();
}

/* --- begin ---------------------------------------------------------------------------------- */

for (const lane of lanes)
	lanesByIndex[lane.index] = lane;
byId('recording').textContent = [names.name, plural(names.events, 'event'), plural(lanes.length, 'thread'),
	names.processes.map((_, i) => processName(i)).join(', '), `bhtrace ${names.version}`].join(' · ');
document.title = `${names.name} - bhtrace timeline`;
showVerdicts();
showFindings();
showNotes();
showLatency();
showGaps();
countOverview();
applyTheme();
resize();

for (const [id, action] of Object.entries({
	previous: () => stepFinding(-1), next: () => stepFinding(1), in: anywhere['+'], out: anywhere['-'], fit: anywhere.f,
	theme: switchTheme, 'help-open': anywhere['?']
}))
	byId(id).addEventListener('click', action);
for (const [type, handler] of Object.entries({
	pointerdown: onPress, pointermove: onMove, pointerup: onRelease, pointercancel: onRelease, dblclick: onDoubleClick
}))
	stage.canvas.addEventListener(type, handler);
stage.canvas.addEventListener('wheel', onWheel, { passive: false });
stage.canvas.addEventListener('pointerleave', () => { byId('tip').hidden = true; });
overview.canvas.addEventListener('pointerdown', e => {
	const at = full.begin + e.offsetX / overview.canvas.clientWidth * (full.end - full.begin);
	setView(at - viewLength() / 2, at + viewLength() / 2);
});
document.addEventListener('keydown', onKey);
dark.addEventListener('change', applyTheme);
window.addEventListener('resize', resize);
if (names.finding)
	goToFinding(names.finding - 1, false);
