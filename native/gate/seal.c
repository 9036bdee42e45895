#include "gate/seal.h"

#include <endian.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#define NONCE_BYTES 12

bool seal_key(struct seal *seal, const unsigned char key[SIPHASH_KEY_BYTES], const char *pair, uint64_t from, uint64_t to)
{
	if (seal->context != NULL && seal->from == from && seal->to == to)
		return true;
	unsigned char label[96] = "gate input copy 1", derived[32];
	unsigned length = sizeof derived;
	uint64_t ends[2] = {htole64(from), htole64(to)};
	strncpy((char *)label + 17, pair, 62);
	memcpy(label + sizeof label - sizeof ends, ends, sizeof ends);
	seal_end(seal);
	seal->context = EVP_CIPHER_CTX_new();
	bool ok = seal->context != NULL &&
		  HMAC(EVP_sha256(), key, SIPHASH_KEY_BYTES, label, sizeof label, derived, &length) != NULL &&
		  EVP_CipherInit_ex(seal->context, EVP_aes_128_gcm(), NULL, derived, NULL, 1) == 1;
	OPENSSL_cleanse(derived, sizeof derived);
	if (!ok)
		seal_end(seal);
	seal->from = from;
	seal->to = to;
	return ok;
}

static bool begin(struct seal *seal, uint64_t number, const void *header, size_t header_bytes, int encrypt)
{
	unsigned char nonce[NONCE_BYTES] = {0};
	int length;
	number = htole64(number);
	memcpy(nonce, &number, sizeof number);
	return seal->context != NULL && EVP_CipherInit_ex(seal->context, NULL, NULL, NULL, nonce, encrypt) == 1 &&
	       EVP_CipherUpdate(seal->context, NULL, &length, header, (int)header_bytes) == 1;
}

bool seal_close(struct seal *seal, uint64_t number, const void *header, size_t header_bytes, unsigned char *bytes, size_t length)
{
	int done, rest;
	return begin(seal, number, header, header_bytes, 1) &&
	       EVP_CipherUpdate(seal->context, bytes, &done, bytes, (int)length) == 1 &&
	       EVP_CipherFinal_ex(seal->context, bytes + done, &rest) == 1 &&
	       EVP_CIPHER_CTX_ctrl(seal->context, EVP_CTRL_GCM_GET_TAG, SEAL_TAG_BYTES, bytes + length) == 1;
}

bool seal_open(struct seal *seal, uint64_t number, const void *header, size_t header_bytes, unsigned char *bytes, size_t length)
{
	int done, rest;
	return begin(seal, number, header, header_bytes, 0) &&
	       EVP_CipherUpdate(seal->context, bytes, &done, bytes, (int)length) == 1 &&
	       EVP_CIPHER_CTX_ctrl(seal->context, EVP_CTRL_GCM_SET_TAG, SEAL_TAG_BYTES, bytes + length) == 1 &&
	       EVP_CipherFinal_ex(seal->context, bytes + done, &rest) == 1;
}

void seal_end(struct seal *seal)
{
	EVP_CIPHER_CTX_free(seal->context);
	seal->context = NULL;
}
