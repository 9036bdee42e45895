# What ftdump needs of the files, and what ftstore needs. Both read a roots file: line/line.c is in $(LINE_SRCS).
FILES_SCAN_SRCS := files/scan.c files/index.c files/walk.c files/plan.c files/content.c files/attributes.c files/hash.c files/roots.c
FILES_APPLY_SRCS := files/parse.c files/apply.c files/apply_entry.c files/tracked.c
