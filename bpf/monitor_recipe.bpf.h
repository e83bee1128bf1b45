/* SPDX-License-Identifier: MIT */
/* monitor_recipe.bpf.h - functions of loops that have no probes (recipe.h), for the handlers of monitor.bpf.c, which
 * is all that includes it */
#ifndef BHB_MONITOR_RECIPE_BPF_H
#define BHB_MONITOR_RECIPE_BPF_H

static __always_inline __u64 to_ticks(__u64 ns)
{
	const __s64 since = (__s64)(ns - at_ns);
	const __u64 n = (__u64)(since < 0 ? -since : since);
	const __u64 ticks = (n >> 20) * ticks_mult + ((n & 0xfffff) * ticks_mult >> TICK_SHIFT);

	return since < 0 ? at_ticks - ticks : at_ticks + ticks;
}

static __always_inline void made(const struct bhb_recipe *r, const struct bhp_record *record)
{
	const struct bhb_key key = key_of(0);
	const struct bhb_known callback = { .callback = bhb_new_callback(r, record), .tgid = key.tgid };

	if (callback.callback && !bpf_map_lookup_elem(&known, &callback))
		tell(BHB_MADE, &key, bpf_ktime_get_ns());
}

static __always_inline void bhb_carry_out(const struct bhb_recipe *r, const struct bhb_call *c, __u64 result,
					  __u64 time)
{
	struct bhp_record record;
	const char *text;

	if (bhb_cook(r, c, result, to_ticks(time), &record, &text) != BHB_EVENT)
		return;
	struct call a = { .loop = bhp_get_LOOP(&record),
			  .bh = bhp_get_BH(&record),
			  .name = (__u64)text,
			  .time = record.word[0],
			  .flag = &r->flag };
	switch (r->event) {
	case BHP_ID_loop_new:
		on_loop_new(&a);
		break;
	case BHP_ID_bh_new:
		on_bh_new(&a);
		made(r, &record);
		break;
	case BHP_ID_bh_delete:
		on_bh_delete(&a);
		break;
	case BHP_ID_bh_cancel:
		on_bh_cancel(&a);
		break;
	case BHP_ID_schedule:
		a.seen = bhp_get_T0(&record);
		a.kind = bhp_get_T1(&record);
		on_schedule(&a);
		break;
	case BHP_ID_execute_end:
		a.begin = to_ticks(bhp_get_ARG(&record));
		on_execute_end(&a);
		break;
	case BHP_ID_poll_begin:
		on_poll_begin(&a);
		break;
	case BHP_ID_wait_begin:
		a.timeout_ns = bhp_get_ARG2(&record);
		on_wait_begin(&a);
		break;
	case BHP_ID_wait_end:
		a.woke = bhp_get_T0(&record);
		on_wait_end(&a);
		break;
	}
}

#endif
