#include "agent/agent.h"
int tt_region_make(void){return -1;}
void tt_hook_sample(void){}
void tt_hook_sample_quiet(void){}
