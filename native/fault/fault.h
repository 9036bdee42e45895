/*
 * Fault points of the native programs: named places where a test can make the product fail. Inert unless
 * FTCTL_FAULT is set; format and names are in orchestrator/faults/faults.ts.
 */
#ifndef FT_FAULT_FAULT_H
#define FT_FAULT_FAULT_H

/* 0: go on. -1: an error was injected, errno is EIO. May instead delay, hang, or kill the process. */
int ft_fault(const char *point);

/* Reads `variable` anew in place of FTCTL_FAULT; -1 for a malformed one. Tests only need this. */
int ft_fault_load(const char *variable);

#endif
