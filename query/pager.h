/* pager.h - long text through a pager, by git's rules: only on a terminal; POSTTRACE_PAGER, then PAGER, then less;
 * empty or "cat" means none. */
#ifndef POSTTRACE_PAGER_H
#define POSTTRACE_PAGER_H

/* From here on stdout goes to the pager, if there is to be one. Look at the terminal before. */
void pager_start(void);
/* Wait until the person has read it; also at exit. */
void pager_finish(void);

#endif
