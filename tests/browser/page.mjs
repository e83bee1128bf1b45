/* SPDX-License-Identifier: MIT */
/*
 * node page.mjs CHROMIUM PAGE SCREENSHOTS: opens the page in a headless browser and uses
 * it as a reader does. Prints what it measures; exits 1 with what is wrong.
 */
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';
import { createRequire } from 'node:module';

/* Where npm put it is not where this file is. */
const { chromium } = createRequire(join(process.env.MODULES || '.', 'x.js'))('playwright-core');
const [executablePath, page_path, screenshots] = process.argv.slice(2);
const FRAME_MS = 150, DRAWING_MS = 50; /* medians; generous: no GPU here, and perhaps others at work */

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });

async function open(options) {
	const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
	const page = await context.newPage(), complaints = [], requests = [];
	page.on('console', m => ['error', 'warning'].includes(m.type()) && complaints.push(m.text()));
	page.on('pageerror', e => complaints.push(String(e)));
	page.on('dialog', d => { complaints.push(`dialog: ${d.message()}`); d.dismiss(); });
	page.on('request', r => requests.push(r.url()));
	const begun = Date.now();
	await page.goto(pathToFileURL(page_path).href);
	await page.waitForFunction(() => document.getElementById('stage').dataset.begin !== undefined);
	return { context, page, complaints, requests, ms: Date.now() - begun };
}

/* The visible range once it has stopped changing. */
async function range(page) {
	await page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
	return page.evaluate(() => {
		const { begin, end } = document.getElementById('stage').dataset;
		return { begin: Number(begin), end: Number(end), length: end - begin };
	});
}

const findingTimes = page => page.evaluate(() => names.findings.map(f => ({ from: f.from, to: f.to })));

function inside(view, from, to, what) {
	assert.ok(view.begin <= from && to <= view.end, `${what}: ${from}..${to} is not within ${view.begin}..${view.end}`);
}

/* --- what is there --------------------------------------------------------------- */

async function checkContents(page) {
	const text = await page.evaluate(() => document.body.innerText);
	for (const part of ['notify-missing', 'Longest gaps', 'median', 'hatched'])
		assert.ok(text.includes(part), `the page does not say '${part}'`);
	assert.ok(text.includes('<b>woke</b>'), 'markup in a finding is not shown as it is');
	assert.equal(await page.locator('#findings button').count(), 2);
	assert.ok(await page.locator('#gaps tbody tr').count() > 5, 'no table of gaps');
	assert.ok(await page.locator('#histogram rect').count() > 3, 'no histogram');
	assert.equal(await page.locator('img, iframe, object, link').count(), 0, 'the page has elements of the target');
	const csp = await page.getAttribute('meta[http-equiv]', 'content');
	assert.ok(csp.startsWith("default-src 'none'") && !csp.includes('unsafe'), csp);
	/* What is injected anyway is not run. */
	await page.evaluate(() => {
		const script = document.createElement('script');
		script.textContent = 'window.injected = true';
		document.body.append(script);
	});
	assert.equal(await page.evaluate(() => window.injected), undefined, 'the policy lets scripts in');
}

async function checkLabels(page) {
	const unnamed = await page.evaluate(() => {
		const label = e => e.getAttribute('aria-label') || e.getAttribute('aria-labelledby');
		const named = e => (e.innerText || '').trim() || label(e), wanted = 'button, canvas[tabindex], [role=img], dialog';
		return [...document.querySelectorAll(`${wanted}, [role=toolbar], [role=region]`)]
			.filter(e => !named(e)).map(e => e.outerHTML.slice(0, 80));
	});
	assert.deepEqual(unnamed, [], 'without a name');
	const order = [];
	await page.evaluate(() => document.activeElement.blur());
	for (let i = 0; i < 14; i++) {
		await page.keyboard.press('Tab');
		order.push(await page.evaluate(() => document.activeElement.closest('[id]')?.id || ''));
	}
	const wanted = ['theme', 'findings', 'next', 'fit', 'lanes', 'gaps'];
	assert.ok(wanted.every(id => order.includes(id)), `Tab does not reach all of ${wanted}: ${order}`);
	assert.deepEqual(order.filter((id, i) => wanted.includes(id) && order.indexOf(id) === i), wanted);
}

/* --- what it does ------------------------------------------------------------------ */

async function checkFindings(page) {
	const times = await findingTimes(page);
	for (const [i, f] of times.entries()) {
		await page.locator('#findings button').nth(i).click();
		const view = await range(page);
		inside(view, f.from, f.to, `finding ${i + 1}`);
		assert.ok(view.length < (f.to - f.from) * 2 + 1e5, `finding ${i + 1} is a speck in ${view.length} ns`);
		assert.equal(await page.locator('#findings button').nth(i).getAttribute('aria-current'), 'true');
		assert.ok(await page.evaluate(() => {
			const box = document.getElementById('lanes').getBoundingClientRect();
			return box.top < innerHeight && box.bottom > 0;
		}), 'the timeline is not on the screen');
	}
}

async function checkGaps(page) {
	const gap = await page.evaluate(() => {
		const i = gaps.urgent[2];
		return { from: events.ns[arrows.schedule[i]], to: events.ns[arrows.execute[i]] };
	});
	await page.locator('#gaps tbody tr').nth(2).click();
	const view = await range(page);
	inside(view, gap.from, gap.to, 'gap');
	assert.ok(view.length < (gap.to - gap.from) * 2 + 1e4, 'the gap is a speck');
	await page.locator('#fit').click();
	await page.locator('#gaps tbody button').nth(2).focus();
	await page.keyboard.press('Enter');
	inside(await range(page), gap.from, gap.to, 'gap by keyboard');
}

async function checkKeys(page) {
	await page.locator('#fit').click();
	const all = await range(page), times = await findingTimes(page);
	await page.locator('#lanes').focus();
	for (const i of [1, 2, 3, 4, 5, 6])
		await page.keyboard.press('+');
	const near = await range(page);
	assert.ok(near.length < all.length / 10, '+ does not zoom');
	await page.keyboard.press('ArrowRight');
	assert.ok((await range(page)).begin > near.begin, 'right does not move');
	await page.keyboard.press('ArrowLeft');
	await page.keyboard.press('Shift+ArrowLeft');
	assert.ok((await range(page)).begin < near.begin, 'left does not move');
	await page.keyboard.press('Home');
	assert.equal((await range(page)).begin, all.begin, 'Home');
	await page.keyboard.press('End');
	assert.ok(Math.abs((await range(page)).end - all.end) < 1, 'End');
	await page.keyboard.press('-');
	assert.ok((await range(page)).length > near.length, '- does not zoom out');
	await page.keyboard.press('n');
	inside(await range(page), times[0].from, times[0].to, 'n');
	await page.keyboard.press('n');
	inside(await range(page), times[1].from, times[1].to, 'n again');
	await page.keyboard.press('p');
	inside(await range(page), times[0].from, times[0].to, 'p');
	await page.keyboard.press('f');
	assert.deepEqual(await range(page), all, 'f');
	await page.keyboard.press('?');
	assert.ok(await page.locator('#help').isVisible(), '? does not help');
	await page.keyboard.press('Escape');
	assert.ok(!await page.locator('#help').isVisible(), 'help stays');
}

async function checkMouse(page) {
	await page.locator('#fit').click();
	const all = await range(page), box = await page.locator('#lanes').boundingBox();
	const at = { x: box.x + box.width * .6, y: box.y + 60 };
	await page.mouse.move(at.x, at.y);
	for (const i of [1, 2, 3, 4, 5])
		await page.mouse.wheel(0, -500);
	const near = await range(page);
	assert.ok(near.length < all.length / 20, 'the wheel does not zoom');
	await page.mouse.down();
	await page.mouse.move(at.x - 200, at.y, { steps: 4 });
	await page.mouse.up();
	assert.ok((await range(page)).begin > near.begin, 'dragging does not move');
}

/* Over something that is drawn there is a tooltip with its fields. */
async function checkTooltip(page) {
	await page.locator('#findings button').nth(0).click();
	await range(page);
	const box = await page.locator('#lanes').boundingBox();
	const place = await page.evaluate(() => {
		const w = names.findings[0].witnesses.find(x => x.role.startsWith('set')), lane = lanesByIndex[w.lane];
		return { x: xOf(w.ns), y: stripY(lane) };
	});
	await page.mouse.move(box.x + place.x, box.y + place.y);
	await page.locator('#tip').waitFor({ state: 'visible', timeout: 3000 });
	const text = await page.locator('#tip').innerText();
	for (const part of ['schedule', 'seen', 'effective', 'completion', 'ticket'])
		assert.ok(text.includes(part), `the tooltip lacks ${part}: ${text}`);
	await page.screenshot({ path: join(screenshots, 'tooltip.png') });
	await page.mouse.move(5, 5);
}

async function checkTheme(page) {
	const color = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
	const before = await color();
	await page.locator('#theme').click();
	await page.locator('#theme').click();
	assert.notEqual(await color(), before, 'the theme does not change');
	await page.locator('#theme').click();
	assert.equal(await color(), before);
}

/* --- how fast ------------------------------------------------------------------------ */

/* Zooms and pans at every frame, from all down to a microsecond and back; gives the
 * times between frames and the times of drawing alone. */
async function measure(page) {
	await page.locator('#fit').click();
	await range(page);
	return page.evaluate(() => new Promise(done => {
		const canvas = document.getElementById('lanes'), box = canvas.getBoundingClientRect();
		const between = [], drawing = [], STEPS = 240;
		let last = performance.now(), n = 0;
		const step = () => {
			const now = performance.now();
			between.push(now - last);
			drawing.push(Number(document.getElementById('stage').dataset.drawMs));
			last = now;
			if (n === STEPS)
				return done({ between: between.slice(2), drawing: drawing.slice(2) });
			const move = n % 3 ? { deltaY: n < STEPS / 2 ? -90 : 90 } : { deltaX: 60 };
			const where = { cancelable: true, clientX: box.x + box.width * .55, clientY: box.y + 80 };
			canvas.dispatchEvent(new WheelEvent('wheel', { ...where, ...move }));
			n++;
			requestAnimationFrame(step);
		};
		requestAnimationFrame(step);
	}));
}

function summary(ms) {
	const sorted = [...ms].sort((a, b) => a - b);
	const at = share => sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)];
	return { median: at(.5), p95: at(.95), worst: at(1) };
}

const words = s => `median ${s.median.toFixed(1)} ms, 95 % ${s.p95.toFixed(1)} ms, worst ${s.worst.toFixed(1)} ms`;

async function checkSpeed(page) {
	const { between, drawing } = await measure(page), frames = summary(between);
	const events = await page.evaluate(() => names.events);
	console.log(`${events} events: frames ${words(frames)}; drawing alone ${words(summary(drawing))}`);
	assert.ok(frames.median < FRAME_MS, 'frames take too long');
	assert.ok(summary(drawing).median < DRAWING_MS, 'drawing takes too long');
}

/* --- all ----------------------------------------------------------------------------- */

async function pictures(page, name) {
	await page.locator('#fit').click();
	await range(page);
	await page.waitForTimeout(300); /* the status line is late on purpose */
	await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
	await page.locator('#findings button').nth(0).click();
	await range(page);
	await page.screenshot({ path: join(screenshots, `${name}-finding.png`) });
	await page.locator('#gaps tbody tr').nth(0).click();
	await range(page);
	await page.screenshot({ path: join(screenshots, `${name}-gap.png`) });
}

async function checkAll() {
	const { context, page, complaints, requests, ms } = await open({ colorScheme: 'light' });
	console.log(`loaded and drawn in ${ms} ms`);
	for (const check of [checkContents, checkLabels, checkFindings, checkGaps, checkKeys, checkMouse, checkTooltip,
		checkTheme, checkSpeed])
		await check(page);
	await pictures(page, 'light');
	/* The only complaint is the one about what checkContents() tried. */
	assert.deepEqual(complaints.filter(c => !/Content Security Policy/.test(c)), []);
	assert.ok(complaints.length <= 1, complaints.join('\n'));
	assert.deepEqual(requests.filter(url => !url.startsWith('file:')), [], 'it uses the network');
	await context.close();
}

async function checkOther(name, options) {
	const { context, page, complaints } = await open(options);
	await pictures(page, name);
	const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
	assert.ok(!wide, `${name}: the page is wider than the screen`);
	assert.deepEqual(complaints, []);
	await context.close();
}

let failed = 0;
try {
	await checkAll();
	await checkOther('dark', { colorScheme: 'dark' });
	const phone = { viewport: { width: 390, height: 800 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
	await checkOther('phone', { colorScheme: 'light', ...phone });
} catch (e) {
	console.log(`FAIL: ${e.stack}`);
	failed = 1;
}
await browser.close();
process.exit(failed);
