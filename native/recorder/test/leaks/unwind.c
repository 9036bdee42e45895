#include "recorder/test/leaks/unwind.h"

#include <string.h>
#include <sys/uio.h>

enum { STATES_MAX = 16, STACK_MAX = 32 };

struct cursor {
	const uint8_t *at, *end;
	bool bad;
};

enum how { SAME, UNDEFINED, AT_OFFSET, IS_OFFSET, IS_REGISTER, AT_EXPRESSION, IS_EXPRESSION };
struct rule {
	enum how how;
	int64_t value;
	struct cursor expression;
};
struct row {
	struct rule cfa; /* IS_OFFSET of cfa_register, or IS_EXPRESSION */
	uint64_t cfa_register;
	struct rule registers[UNWIND_REGISTERS];
};
struct entry { /* a CIE with its FDE */
	struct cursor initial, program;
	uint64_t begin, code_align;
	int64_t data_align;
	uint8_t encoding;
	bool is_signal;
};

bool peek_word(pid_t pid, uint64_t address, uint64_t *out)
{
	struct iovec here = {out, sizeof *out}, there = {(void *)address, sizeof *out};
	return process_vm_readv(pid, &here, 1, &there, 1, 0) == (ssize_t)sizeof *out;
}

static uint64_t take(struct cursor *c, unsigned bytes)
{
	uint64_t value = 0;
	if ((size_t)(c->end - c->at) < bytes) {
		c->bad = true;
		c->at = c->end;
		return 0;
	}
	memcpy(&value, c->at, bytes);
	c->at += bytes;
	return value;
}

static int64_t take_signed(struct cursor *c, unsigned bytes)
{
	uint64_t value = take(c, bytes);
	unsigned shift = 64 - 8 * bytes;
	return bytes == 8 ? (int64_t)value : (int64_t)(value << shift) >> shift;
}

/* Seven bits a byte; *shift is where they end, and *last their last byte. */
static uint64_t leb(struct cursor *c, unsigned *shift, uint64_t *last)
{
	uint64_t value = 0;
	*shift = 0;
	do {
		*last = take(c, 1);
		value |= *shift < 64 ? (*last & 0x7f) << *shift : 0;
		*shift += 7;
	} while (*last & 0x80 && !c->bad);
	return value;
}

static uint64_t uleb(struct cursor *c)
{
	unsigned shift;
	uint64_t last;
	return leb(c, &shift, &last);
}

static int64_t sleb(struct cursor *c)
{
	unsigned shift;
	uint64_t last, value = leb(c, &shift, &last);
	return (int64_t)(shift < 64 && last & 0x40 ? value | ~0ull << shift : value);
}

static struct cursor block(struct cursor *c)
{
	uint64_t bytes = uleb(c);
	if (bytes > (uint64_t)(c->end - c->at)) {
		c->bad = true;
		bytes = 0;
	}
	struct cursor inner = {c->at, c->at + bytes, false};
	c->at += bytes;
	return inner;
}

/* `own`: the address of the value itself, in the file's terms. */
static uint64_t encoded(struct cursor *c, uint8_t encoding, uint64_t own)
{
	uint64_t value = 0;
	switch (encoding & 0x0f) {
	case 0x00: case 0x04: case 0x0c: value = take(c, 8); break;
	case 0x02: value = take(c, 2); break;
	case 0x03: value = take(c, 4); break;
	case 0x0a: value = (uint64_t)take_signed(c, 2); break;
	case 0x0b: value = (uint64_t)take_signed(c, 4); break;
	default: c->bad = true;
	}
	return (encoding & 0x70) == 0x10 ? value + own : value;
}

static bool find_entry(const struct module *m, uint64_t own_pc, uint64_t *entry)
{
	size_t left;
	const uint8_t *header = m->frames_header != 0 ? module_bytes(m, m->frames_header, &left) : NULL;
	/* The one arrangement that linkers make: counts of 4 bytes, a table relative to the header. */
	if (header == NULL || left < 12 || header[0] != 1 || (header[2] & 0x0f) != 0x03 || header[3] != 0x3b)
		return false;
	uint32_t count;
	memcpy(&count, header + 8, 4);
	if (count == 0 || (left - 12) / 8 < count)
		return false;
	uint32_t low = 0, high = count;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		int32_t begin;
		memcpy(&begin, header + 12 + 8 * (size_t)middle, 4);
		if (m->frames_header + (uint64_t)(int64_t)begin <= own_pc)
			low = middle;
		else
			high = middle;
	}
	int32_t offset;
	memcpy(&offset, header + 12 + 8 * (size_t)low + 4, 4);
	*entry = m->frames_header + (uint64_t)(int64_t)offset;
	return true;
}

static bool open_at(const struct module *m, uint64_t own, struct cursor *c, uint64_t *id_own)
{
	size_t left;
	const uint8_t *at = module_bytes(m, own, &left);
	if (at == NULL || left < 8)
		return false;
	*c = (struct cursor){at, at + left, false};
	uint64_t length = take(c, 4);
	if (length == 0 || length == 0xffffffff || length > left - 4)
		return false;
	c->end = c->at + length;
	*id_own = own + 4;
	return true;
}

static bool read_cie(const struct module *m, uint64_t own, struct entry *e)
{
	struct cursor c;
	uint64_t id_own;
	if (!open_at(m, own, &c, &id_own) || take(&c, 4) != 0)
		return false;
	uint64_t version = take(&c, 1);
	const char *augmentation = (const char *)c.at;
	size_t length = strnlen(augmentation, (size_t)(c.end - c.at));
	c.at += length + 1;
	e->code_align = uleb(&c);
	e->data_align = sleb(&c);
	if (version == 1)
		take(&c, 1);
	else
		uleb(&c);
	if (augmentation[0] == 'z') {
		struct cursor data = block(&c);
		for (size_t i = 1; i < length; i++) {
			if (augmentation[i] == 'R') {
				e->encoding = (uint8_t)take(&data, 1);
			} else if (augmentation[i] == 'P') {
				uint8_t encoding = (uint8_t)take(&data, 1);
				encoded(&data, encoding, 0);
			} else if (augmentation[i] == 'L') {
				take(&data, 1);
			} else if (augmentation[i] == 'S') {
				e->is_signal = true;
			}
		}
	}
	e->initial = c;
	return !c.bad;
}

static bool read_entry(const struct module *m, uint64_t own_pc, struct entry *e)
{
	uint64_t own, id_own;
	struct cursor c;
	memset(e, 0, sizeof *e);
	if (!find_entry(m, own_pc, &own) || !open_at(m, own, &c, &id_own))
		return false;
	uint64_t back = take(&c, 4);
	if (back == 0 || !read_cie(m, id_own - back, e))
		return false;
	e->begin = encoded(&c, e->encoding, id_own + 4);
	uint64_t range = encoded(&c, e->encoding & 0x0f, 0);
	if (own_pc - e->begin >= range)
		return false;
	block(&c); /* augmentation */
	e->program = c;
	return !c.bad;
}

static void set(struct row *row, uint64_t number, enum how how, int64_t value)
{
	if (number < UNWIND_REGISTERS)
		row->registers[number] = (struct rule){.how = how, .value = value};
}

static void set_expression(struct row *row, uint64_t number, enum how how, struct cursor expression)
{
	if (number < UNWIND_REGISTERS)
		row->registers[number] = (struct rule){.how = how, .expression = expression};
}

/* False: the program is not understood. */
static bool run(struct cursor c, const struct entry *e, uint64_t own_pc, struct row *row, const struct row *initial)
{
	struct row states[STATES_MAX];
	unsigned depth = 0;
	uint64_t at = e->begin, n;
	while (c.at < c.end && !c.bad) {
		uint8_t op = (uint8_t)take(&c, 1);
		uint64_t low = op & 0x3f, advance = 0;
		if (op >> 6 == 1) {
			advance = low;
		} else if (op >> 6 == 2) {
			set(row, low, AT_OFFSET, (int64_t)uleb(&c) * e->data_align);
		} else if (op >> 6 == 3) {
			if (low < UNWIND_REGISTERS)
				row->registers[low] = initial->registers[low];
		} else switch (op) {
		case 0x00: break;
		case 0x01: at = encoded(&c, e->encoding, 0); break;
		case 0x02: advance = take(&c, 1); break;
		case 0x03: advance = take(&c, 2); break;
		case 0x04: advance = take(&c, 4); break;
		case 0x05: n = uleb(&c); set(row, n, AT_OFFSET, (int64_t)uleb(&c) * e->data_align); break;
		case 0x06: n = uleb(&c); if (n < UNWIND_REGISTERS) row->registers[n] = initial->registers[n]; break;
		case 0x07: set(row, uleb(&c), UNDEFINED, 0); break;
		case 0x08: set(row, uleb(&c), SAME, 0); break;
		case 0x09: n = uleb(&c); set(row, n, IS_REGISTER, (int64_t)uleb(&c)); break;
		case 0x0a: if (depth == STATES_MAX) return false; states[depth++] = *row; break;
		case 0x0b: if (depth == 0) return false; *row = states[--depth]; break;
		case 0x0c: row->cfa_register = uleb(&c); row->cfa = (struct rule){.how = IS_OFFSET, .value = (int64_t)uleb(&c)}; break;
		case 0x0d: row->cfa_register = uleb(&c); break;
		case 0x0e: row->cfa.value = (int64_t)uleb(&c); break;
		case 0x0f: row->cfa = (struct rule){.how = IS_EXPRESSION, .expression = block(&c)}; break;
		case 0x10: n = uleb(&c); set_expression(row, n, AT_EXPRESSION, block(&c)); break;
		case 0x11: n = uleb(&c); set(row, n, AT_OFFSET, sleb(&c) * e->data_align); break;
		case 0x12: row->cfa_register = uleb(&c); row->cfa = (struct rule){.how = IS_OFFSET, .value = sleb(&c) * e->data_align}; break;
		case 0x13: row->cfa.value = sleb(&c) * e->data_align; break;
		case 0x14: n = uleb(&c); set(row, n, IS_OFFSET, (int64_t)uleb(&c) * e->data_align); break;
		case 0x15: n = uleb(&c); set(row, n, IS_OFFSET, sleb(&c) * e->data_align); break;
		case 0x16: n = uleb(&c); set_expression(row, n, IS_EXPRESSION, block(&c)); break;
		case 0x2e: uleb(&c); break;
		default: return false;
		}
		at += advance * e->code_align;
		if (at > own_pc)
			break;
	}
	return !c.bad;
}

static bool evaluate(pid_t pid, struct cursor c, const struct frame *frame, const uint64_t *first, uint64_t *out)
{
	uint64_t stack[STACK_MAX], n = 0, b;
	if (first != NULL)
		stack[n++] = *first;
	while (c.at < c.end) {
		uint8_t op = (uint8_t)take(&c, 1);
		bool binary = op == 0x1a || op == 0x1c || op == 0x22 || op == 0x24 || op == 0x2a;
		if (n + 1 >= STACK_MAX || (binary && n < 2) || ((op == 0x06 || op == 0x12 || op == 0x23) && n < 1))
			return false;
		b = binary ? stack[--n] : 0;
		if (op >= 0x30 && op <= 0x4f) {
			stack[n++] = op - 0x30u;
		} else if (op >= 0x70 && op <= 0x8f) {
			if (op - 0x70u >= UNWIND_REGISTERS)
				return false;
			stack[n++] = frame->registers[op - 0x70u] + (uint64_t)sleb(&c);
		} else switch (op) {
		case 0x06: if (!peek_word(pid, stack[n - 1], &stack[n - 1])) return false; break;
		case 0x08: stack[n++] = take(&c, 1); break;
		case 0x09: stack[n++] = (uint64_t)take_signed(&c, 1); break;
		case 0x0a: stack[n++] = take(&c, 2); break;
		case 0x0b: stack[n++] = (uint64_t)take_signed(&c, 2); break;
		case 0x0c: stack[n++] = take(&c, 4); break;
		case 0x0d: stack[n++] = (uint64_t)take_signed(&c, 4); break;
		case 0x10: stack[n++] = uleb(&c); break;
		case 0x11: stack[n++] = (uint64_t)sleb(&c); break;
		case 0x12: stack[n] = stack[n - 1]; n++; break;
		case 0x1a: stack[n - 1] &= b; break;
		case 0x1c: stack[n - 1] -= b; break;
		case 0x22: stack[n - 1] += b; break;
		case 0x23: stack[n - 1] += uleb(&c); break;
		case 0x24: stack[n - 1] <<= b & 63; break;
		case 0x2a: stack[n - 1] = (int64_t)stack[n - 1] >= (int64_t)b; break;
		default: return false;
		}
	}
	*out = n > 0 ? stack[n - 1] : 0;
	return n > 0 && !c.bad;
}

static bool apply(pid_t pid, const struct rule *rule, const struct frame *before, uint64_t cfa, uint64_t *out)
{
	uint64_t at;
	switch (rule->how) {
	case SAME: return true;
	case UNDEFINED: *out = 0; return true;
	case AT_OFFSET: return peek_word(pid, cfa + (uint64_t)rule->value, out);
	case IS_OFFSET: *out = cfa + (uint64_t)rule->value; return true;
	case IS_REGISTER: *out = rule->value < UNWIND_REGISTERS ? before->registers[rule->value] : 0; return true;
	case AT_EXPRESSION: return evaluate(pid, rule->expression, before, &cfa, &at) && peek_word(pid, at, out);
	case IS_EXPRESSION: return evaluate(pid, rule->expression, before, &cfa, out);
	}
	return false;
}

bool unwind_one(pid_t pid, const struct module *module, struct frame *frame)
{
	uint64_t pc = frame->registers[UNWIND_RIP] - module->base - (frame->interrupted ? 0 : 1), cfa;
	struct entry e;
	struct row row = {0}, initial;
	if (!read_entry(module, pc, &e) || !run(e.initial, &e, UINT64_MAX, &row, &row))
		return false;
	initial = row;
	if (!run(e.program, &e, pc, &row, &initial) || row.registers[UNWIND_RIP].how == UNDEFINED)
		return false;
	struct frame before = *frame;
	if (row.cfa.how == IS_EXPRESSION) {
		if (!evaluate(pid, row.cfa.expression, &before, NULL, &cfa))
			return false;
	} else {
		cfa = row.cfa_register < UNWIND_REGISTERS ? before.registers[row.cfa_register] + (uint64_t)row.cfa.value : 0;
	}
	for (unsigned i = 0; i < UNWIND_REGISTERS; i++)
		if (!apply(pid, &row.registers[i], &before, cfa, &frame->registers[i]))
			return false;
	if (row.registers[UNWIND_RSP].how == SAME)
		frame->registers[UNWIND_RSP] = cfa;
	frame->interrupted = e.is_signal;
	return frame->registers[UNWIND_RIP] != 0;
}
