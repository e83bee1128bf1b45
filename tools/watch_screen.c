/* SPDX-License-Identifier: MIT */
/* The screen: totals, loops, bottom halves, and what was said last. */
#include <locale.h>
#include <ncurses.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bhtrace.h"
#include "watch.h"

enum { SAID_MAX = 6, LOOPS_MAX = 6, RED = 1, YELLOW };

static struct {
	SCREEN *terminal;
	struct watch_row *rows; /* copies, so that keys work while it is paused */
	struct watch_loop *loops;
	size_t n_rows, n_loops, top;
	struct watch_totals totals;
	enum watch_sort sort;
	bool paused, help, color;
	char said[SAID_MAX][WATCH_LINE];
	enum watch_kind kinds[SAID_MAX];
	unsigned n_said;
} screen;

static void close_screen(void)
{
	if (screen.terminal)
		endwin();
	screen.terminal = NULL;
}

/* Whatever ends the program: the terminal is left as it was. */
static void on_crash(int sig)
{
	close_screen();
	signal(sig, SIG_DFL);
	raise(sig);
}

static int open_screen(const struct watch_options *o)
{
	static const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };

	setlocale(LC_CTYPE, "");
	screen.terminal = newterm(NULL, stdout, stdin);
	if (!screen.terminal) {
		fprintf(stderr, "bhtrace: the terminal '%s' is not known here; --plain works on any\n",
			getenv("TERM") ? getenv("TERM") : "");
		return EXIT_USAGE;
	}
	atexit(close_screen);
	for (size_t i = 0; i < sizeof(crashes) / sizeof(*crashes); i++)
		signal(crashes[i], on_crash);
	cbreak();
	noecho();
	nodelay(stdscr, TRUE);
	keypad(stdscr, TRUE);
	curs_set(0);
	screen.sort = WATCH_BY_RATE;
	screen.color = o->color && has_colors() && start_color() == OK;
	if (screen.color) {
		use_default_colors();
		init_pair(RED, COLOR_RED, -1);
		init_pair(YELLOW, COLOR_YELLOW, -1);
	}
	return EXIT_HEALTHY;
}

/* --- drawing ------------------------------------------------------------------------------ */

static void put(int y, const char *line, int attributes)
{
	if (y < 0 || y >= LINES)
		return;
	attron(attributes);
	mvaddnstr(y, 0, line, -1);
	attroff(attributes);
}

static int severe(void)
{
	return A_BOLD | (screen.color ? COLOR_PAIR(RED) : A_REVERSE);
}

static int attributes_of(enum watch_kind kind)
{
	if (kind == WATCH_RAISED)
		return severe();
	return kind == WATCH_UNDECIDED || kind == WATCH_LATE ? (screen.color ? COLOR_PAIR(YELLOW) : A_BOLD) : 0;
}

static int draw_loops(int y)
{
	char line[WATCH_LINE];
	const size_t shown = screen.n_loops < LOOPS_MAX ? screen.n_loops : LOOPS_MAX;

	for (size_t i = 0; i <= shown; i++) {
		watch_loop_line(line, i ? &screen.loops[i - 1] : NULL, (unsigned)COLS);
		put(y++, line, i ? 0 : A_BOLD);
	}
	if (shown < screen.n_loops) {
		snprintf(line, sizeof(line), "... and %zu more loops", screen.n_loops - shown);
		put(y++, line, A_DIM);
	}
	return y;
}

static void draw_rows(int y, int end)
{
	const struct watch_row **rows = calloc(screen.n_rows + 1, sizeof(*rows));
	char line[WATCH_LINE];

	watch_row_line(line, NULL, (unsigned)COLS);
	put(y++, line, A_BOLD);
	if (!rows)
		return;
	for (size_t i = 0; i < screen.n_rows; i++)
		rows[i] = &screen.rows[i];
	watch_sort(rows, screen.n_rows, screen.sort);
	if (screen.top >= screen.n_rows)
		screen.top = screen.n_rows ? screen.n_rows - 1 : 0;
	for (size_t i = screen.top; i < screen.n_rows && y < end; i++) {
		watch_row_line(line, rows[i], (unsigned)COLS);
		put(y++, line, rows[i]->overdue ? severe() : 0);
	}
	free(rows);
}

static void draw_help(void)
{
	static const char *const lines[] = {
		"q  quit          s  sort by the next column",
		"p  pause         h  this help",
		"arrows, page up, page down: scroll",
		"",
		"SCHED/S   schedules a second, COALESC of them found the flag set already",
		"P50, P99  of the time from schedule to execution; WORST of it",
		"PENDING   so long has something waited, or run, just now",
		"OVERDUE   what the last diagnosis of that process says",
		"",
		"A hang is raised when two looks at the process agree. Nothing is stopped for that.",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		put((int)i + 2, lines[i], 0);
}

static void draw(void)
{
	char line[WATCH_LINE];
	const int said = (int)screen.n_said < LINES / 3 ? (int)screen.n_said : LINES / 3;

	erase();
	snprintf(line, sizeof(line), "bhtrace watch%s  sorted by %s  q quit, s sort, p pause, h help",
		 screen.paused ? " (paused)" : "", watch_sorts[screen.sort]);
	put(0, line, A_REVERSE);
	if (screen.help) {
		draw_help();
	} else {
		watch_totals_line(line, &screen.totals);
		put(1, line, 0);
		const int y = getcury(stdscr) + 2; /* it may have taken two lines */
		draw_rows(draw_loops(y) + 1, LINES - said - 1);
	}
	for (int i = 0; i < said && !screen.help; i++) {
		const unsigned at = screen.n_said - (unsigned)said + (unsigned)i;
		move(LINES - said + i, 0);
		attron(attributes_of(screen.kinds[at]));
		addnstr(screen.said[at], COLS - 1);
		attroff(attributes_of(screen.kinds[at]));
	}
	refresh();
}

/* --- what is told ---------------------------------------------------------------------------- */

static void *copy_of(const void *data, size_t n, size_t size)
{
	void *copy = malloc(n * size + 1);

	return copy && n ? memcpy(copy, data, n * size) : copy;
}

static void table(const struct watch_view *v)
{
	if (screen.paused)
		return;
	free(screen.rows);
	free(screen.loops);
	screen.rows = copy_of(v->rows, v->n_rows, sizeof(*v->rows));
	screen.loops = copy_of(v->loops, v->n_loops, sizeof(*v->loops));
	screen.n_rows = screen.rows ? v->n_rows : 0;
	screen.n_loops = screen.loops ? v->n_loops : 0;
	screen.totals = v->totals;
	draw();
}

static void event(const struct watch_event *e)
{
	char waited[WATCH_CELL] = "";

	if (screen.n_said == SAID_MAX) {
		memmove(screen.said[0], screen.said[1], sizeof(screen.said) - sizeof(screen.said[0]));
		memmove(screen.kinds, screen.kinds + 1, sizeof(screen.kinds) - sizeof(screen.kinds[0]));
		screen.n_said--;
	}
	if (e->waited_ns)
		watch_time(waited, e->waited_ns);
	screen.kinds[screen.n_said] = e->kind;
	snprintf(screen.said[screen.n_said++], WATCH_LINE, "%s %.60s/%u %.30s %.60s%s%.60s %s %s %.500s %.200s",
		 watch_kinds[e->kind], e->process, e->pid, e->rule, e->loop, *e->bh ? ":" : "", e->bh, e->why, waited,
		 e->sentence, e->snapshot);
	draw();
}

static void resize(void)
{
	struct winsize size;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_row && size.ws_col &&
	    (size.ws_row != LINES || size.ws_col != COLS))
		resizeterm(size.ws_row, size.ws_col);
}

static bool input(void)
{
	const size_t page = LINES > 20 ? (size_t)LINES - 20 : 1;
	int key;

	resize();
	while ((key = getch()) != ERR) {
		switch (key) {
		case 'q':
			return false;
		case 's':
			screen.sort = (screen.sort + 1) % WATCH_SORTS;
			break;
		case 'p':
			screen.paused = !screen.paused;
			break;
		case 'h':
		case '?':
			screen.help = !screen.help;
			break;
		case KEY_UP:
			screen.top -= screen.top > 0;
			break;
		case KEY_DOWN:
			screen.top++;
			break;
		case KEY_PPAGE:
			screen.top -= screen.top < page ? screen.top : page;
			break;
		case KEY_NPAGE:
			screen.top += page;
			break;
		default:
			break;
		}
	}
	draw();
	return true;
}

static void finish(void)
{
	close_screen();
	free(screen.rows);
	free(screen.loops);
	screen.rows = NULL;
	screen.loops = NULL;
	screen.n_rows = screen.n_loops = 0;
	/* What was raised must not go with the screen. */
	for (unsigned i = 0; i < screen.n_said; i++)
		if (screen.kinds[i] == WATCH_RAISED)
			puts(screen.said[i]);
}

const struct watch_output watch_screen = { open_screen, table, event, input, finish };
