/* The format: the kernel's Documentation/bpf/btf.rst. Its numbers are of this machine's own byte order. */
#include "vma/btf.h"

#include <linux/btf.h>
#include <stdbool.h>
#include <string.h>

enum { DEPTH_MAX = 8, TYPES_MAX = 1 << 22 };

struct btf {
	const uint8_t *types, *strings;
	size_t types_bytes, strings_bytes;
};

static struct btf_type read_type(const uint8_t *at)
{
	struct btf_type type;
	memcpy(&type, at, sizeof type);
	return type;
}

static bool is_called(const struct btf *btf, uint32_t name, const char *wanted)
{
	size_t length = strlen(wanted) + 1;
	return name < btf->strings_bytes && length <= btf->strings_bytes - name && memcmp(btf->strings + name, wanted, length) == 0;
}

/* What follows the head of a type: its bytes, or SIZE_MAX for a kind that is not known. */
static size_t tail_of(const struct btf_type *type)
{
	size_t count = BTF_INFO_VLEN(type->info);
	switch (BTF_INFO_KIND(type->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return 4;
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return count * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return count * sizeof(struct btf_enum);
	case BTF_KIND_FUNC_PROTO:
		return count * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return count * sizeof(struct btf_var_secinfo);
	case BTF_KIND_ENUM64:
		return count * 12;
	case BTF_KIND_PTR:
	case BTF_KIND_FWD:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_FUNC:
	case BTF_KIND_FLOAT:
	case BTF_KIND_TYPE_TAG:
		return 0;
	default:
		return SIZE_MAX;
	}
}

/* The type with this number, from the beginning: types have no index. NULL: there is none. */
static const uint8_t *type_at(const struct btf *btf, uint32_t wanted)
{
	size_t at = 0;
	for (uint32_t id = 1; id <= TYPES_MAX && at + sizeof(struct btf_type) <= btf->types_bytes; id++) {
		struct btf_type type = read_type(btf->types + at);
		size_t tail = tail_of(&type);
		if (tail == SIZE_MAX || tail > btf->types_bytes - at - sizeof type)
			return NULL;
		if (id == wanted)
			return btf->types + at;
		at += sizeof type + tail;
	}
	return NULL;
}

/* Qualifiers stand between an unnamed member and its structure. */
static const uint8_t *unqualified(const struct btf *btf, uint32_t id)
{
	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		const uint8_t *at = type_at(btf, id);
		if (at == NULL)
			return NULL;
		struct btf_type type = read_type(at);
		uint32_t kind = BTF_INFO_KIND(type.info);
		if (kind != BTF_KIND_CONST && kind != BTF_KIND_VOLATILE && kind != BTF_KIND_TYPEDEF)
			return at;
		id = type.type;
	}
	return NULL;
}

/* Whether `member` is in the structure at `at`; *bits is where. */
static bool find_member(const struct btf *btf, const uint8_t *at, const char *member, uint32_t *bits, int depth)
{
	struct btf_type type = read_type(at);
	uint32_t kind = BTF_INFO_KIND(type.info);
	if ((kind != BTF_KIND_STRUCT && kind != BTF_KIND_UNION) || depth == DEPTH_MAX)
		return false;
	for (uint32_t i = 0; i < BTF_INFO_VLEN(type.info); i++) {
		struct btf_member one;
		memcpy(&one, at + sizeof type + i * sizeof one, sizeof one);
		uint32_t offset = BTF_INFO_KFLAG(type.info) ? BTF_MEMBER_BIT_OFFSET(one.offset) : one.offset;
		if (is_called(btf, one.name_off, member)) {
			*bits = offset;
			return true;
		}
		if (!is_called(btf, one.name_off, ""))
			continue;
		const uint8_t *inner = unqualified(btf, one.type);
		uint32_t within;
		if (inner != NULL && find_member(btf, inner, member, &within, depth + 1)) {
			*bits = offset + within;
			return true;
		}
	}
	return false;
}

static bool answer_structure(const struct btf *btf, const uint8_t *at, struct btf_question *question)
{
	for (size_t i = 0; i < BTF_MEMBERS_MAX && question->member[i] != NULL; i++) {
		uint32_t bits;
		if (!find_member(btf, at, question->member[i], &bits, 0) || bits % 8 != 0)
			return false;
		question->offset[i] = bits / 8;
	}
	return true;
}

int btf_ask(const uint8_t *bytes, size_t count, struct btf_question *question)
{
	struct btf_header header;
	if (count < sizeof header)
		return -1;
	memcpy(&header, bytes, sizeof header);
	if (header.magic != BTF_MAGIC || header.version != BTF_VERSION || header.hdr_len > count)
		return -1;
	size_t room = count - header.hdr_len;
	if (header.type_off > room || header.type_len > room - header.type_off || header.str_off > room ||
	    header.str_len > room - header.str_off)
		return -1;
	struct btf btf = { .types = bytes + header.hdr_len + header.type_off, .types_bytes = header.type_len,
			   .strings = bytes + header.hdr_len + header.str_off, .strings_bytes = header.str_len };
	bool has_structure = false, has_function = false;
	size_t at = 0;
	for (uint32_t id = 1; id <= TYPES_MAX && at + sizeof(struct btf_type) <= btf.types_bytes; id++) {
		struct btf_type type = read_type(btf.types + at);
		size_t tail = tail_of(&type);
		if (tail == SIZE_MAX || tail > btf.types_bytes - at - sizeof type)
			return -1;
		uint32_t kind = BTF_INFO_KIND(type.info);
		if (!has_structure && kind == BTF_KIND_STRUCT && is_called(&btf, type.name_off, question->structure))
			has_structure = answer_structure(&btf, btf.types + at, question);
		if (!has_function && kind == BTF_KIND_FUNC && is_called(&btf, type.name_off, question->function)) {
			question->function_id = id;
			has_function = true;
		}
		if (has_structure && has_function)
			return 0;
		at += sizeof type + tail;
	}
	return -1;
}
