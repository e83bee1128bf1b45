/* SPDX-License-Identifier: MIT */
/* foreign_recipe.h - what an adapter says of a function, as a recipe for eBPF */
#ifndef BHTRACE_FOREIGN_RECIPE_H
#define BHTRACE_FOREIGN_RECIPE_H

#include "layout.h"
#include "recipes.h"

/*
 * The recipe of P, of the adapter and with the places of LAYOUT. CALLBACK is the function, when P is of those that
 * bottom halves run. 0, or -ENOTSUP when it has a field that LAYOUT has no place for. Pure.
 */
int foreign_recipe(const struct bht_layout *layout, const struct bht_probe *p, uint64_t callback,
		   struct bhb_recipe *recipe);

/* The probe stands behind the clear of the flag, which was set for all that is known. */
void foreign_recipe_cancelled(struct bhb_recipe *recipe);

/* The descriptors of the loop that is argument ARG of a function, as BHB_TELLS_LOOP. As foreign_recipe(). */
int foreign_recipe_loop(const struct bht_layout *layout, unsigned arg, struct bhb_recipe *recipe);

#endif
