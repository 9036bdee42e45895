#include "ship/link_tls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>
#include <string.h>

#define PSK_BYTES 32
#define IDENTITY "ftgate"

static const unsigned char suite[] = {0x13, 0x01}; /* TLS_AES_128_GCM_SHA256 */

/* The pair's key authenticates heartbeats too; here it only ever serves to derive another. */
static bool derive_psk(const struct link_settings *settings, unsigned char psk[PSK_BYTES])
{
	unsigned char label[16 + sizeof settings->pair] = "ship tls psk 1";
	unsigned length = PSK_BYTES;
	memcpy(label + 16, settings->pair, sizeof settings->pair);
	return HMAC(EVP_sha256(), settings->key, sizeof settings->key, label, sizeof label, psk, &length) != NULL &&
	       length == PSK_BYTES;
}

static SSL_SESSION *psk_session(SSL *tls)
{
	const struct link *link = SSL_get_app_data(tls);
	unsigned char psk[PSK_BYTES];
	const SSL_CIPHER *cipher = SSL_CIPHER_find(tls, suite);
	SSL_SESSION *session = SSL_SESSION_new();
	bool ok = session != NULL && cipher != NULL && derive_psk(link->settings, psk) &&
		  SSL_SESSION_set1_master_key(session, psk, sizeof psk) == 1 &&
		  SSL_SESSION_set_cipher(session, cipher) == 1 &&
		  SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1 &&
		  SSL_SESSION_set1_id_context(session, (const unsigned char *)IDENTITY, strlen(IDENTITY)) == 1;
	OPENSSL_cleanse(psk, sizeof psk);
	if (!ok) {
		SSL_SESSION_free(session);
		return NULL;
	}
	return session;
}

static int offer(SSL *tls, const EVP_MD *digest, const unsigned char **id, size_t *id_length, SSL_SESSION **session)
{
	(void)digest;
	*session = psk_session(tls);
	*id = (const unsigned char *)IDENTITY;
	*id_length = strlen(IDENTITY);
	return *session != NULL;
}

static int find(SSL *tls, const unsigned char *id, size_t id_length, SSL_SESSION **session)
{
	*session = NULL;
	/* Without a session there is no certificate to fall back to: the handshake fails. */
	if (id_length != strlen(IDENTITY) || memcmp(id, IDENTITY, id_length) != 0)
		return 1;
	*session = psk_session(tls);
	return *session != NULL;
}

int link_tls_context(struct link_settings *settings, const char **why)
{
	SSL_CTX *context = SSL_CTX_new(TLS_method());
	*why = "no TLS 1.3 with pre-shared keys in this OpenSSL";
	if (context == NULL)
		return -1;
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* One recv() for what is there, not one for each record's header and body. */
	SSL_CTX_set_read_ahead(context, 1);
	SSL_CTX_set_default_read_buffer_len(context, LINK_RECORD_BYTES_MAX);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	/* A peer that would rather show a certificate is not ours: none is trusted. */
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_psk_use_session_callback(context, offer);
	SSL_CTX_set_psk_find_session_callback(context, find);
	/* OpenSSL wants to know what a session is good for before it verifies anybody. */
	if (SSL_CTX_set_session_id_context(context, (const unsigned char *)IDENTITY, strlen(IDENTITY)) != 1 ||
	    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 || SSL_CTX_set_num_tickets(context, 0) != 1) {
		SSL_CTX_free(context);
		return -1;
	}
	settings->context = context;
	return 0;
}

void link_tls_context_free(struct link_settings *settings)
{
	SSL_CTX_free(settings->context);
	settings->context = NULL;
}

int link_tls_begin(struct link *link)
{
	SSL *tls = SSL_new(link->settings->context);
	if (tls == NULL)
		return -1;
	link->tls = tls;
	SSL_set_app_data(tls, link);
	if (SSL_set_fd(tls, link->fd) != 1)
		return -1;
	if (link->client)
		SSL_set_connect_state(tls);
	else
		SSL_set_accept_state(tls);
	return 0;
}

/* 0: try again later. -1: dead. */
static int judge(struct link *link, int result, const char **why)
{
	int error = SSL_get_error(link->tls, result);
	*why = error == SSL_ERROR_ZERO_RETURN || error == SSL_ERROR_SYSCALL ? "closed" : "not-authentic";
	if (error == SSL_ERROR_WANT_WRITE)
		link->wants_out = true;
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

int link_tls_greet(struct link *link, const char **why)
{
	ERR_clear_error();
	link->wants_out = false;
	int result = SSL_do_handshake(link->tls);
	if (result != 1)
		return judge(link, result, why);
	*why = "not-authentic";
	/* "Reused" is how a pre-shared key looks: it was this key that opened the connection. */
	return SSL_session_reused(link->tls) == 1 && SSL_version(link->tls) == TLS1_3_VERSION ? 1 : -1;
}

ssize_t link_tls_write(struct link *link, const void *bytes, size_t length)
{
	const char *why;
	size_t written = 0;
	ERR_clear_error();
	link->wants_out = false;
	int result = SSL_write_ex(link->tls, bytes, length, &written);
	return result == 1 ? (ssize_t)written : judge(link, result, &why);
}

ssize_t link_tls_read(struct link *link, void *bytes, size_t length, const char **why)
{
	size_t got = 0;
	ERR_clear_error();
	int result = SSL_read_ex(link->tls, bytes, length, &got);
	return result == 1 ? (ssize_t)got : judge(link, result, why);
}

void link_tls_end(struct link *link)
{
	SSL_free(link->tls);
	link->tls = NULL;
}
