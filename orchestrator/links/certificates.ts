/**
 * X.509 for the cluster: one authority (ECDSA P-256), one certificate a host. Life: the authority 20 years,
 * a host 2 years; renewal.ts renews a host's when less than a third of its life is left. Validity starts a day early, so that a host whose clock
 * lags can join.
 */
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  type PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { FtError } from "../errors/error.js";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY_MS = 24 * 3_600_000;
const AUTHORITY_LIFE_MS = 20 * 365 * DAY_MS;
export const HOST_LIFE_MS = 2 * 365 * DAY_MS;
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

export interface KeyAndCertificate {
  key: string;
  certificate: string;
}

export async function createAuthorityCertificate(
  cluster: string,
  nowMs: number,
): Promise<KeyAndCertificate> {
  const keys = await createKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: `CN=ftctl authority ${cluster}`,
    keys,
    ...validity(nowMs, AUTHORITY_LIFE_MS),
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey, false),
    ],
    signingAlgorithm: ALGORITHM,
  });
  return { key: await keyPem(keys.privateKey), certificate: `${certificate.toString("pem")}\n` };
}

/** A fresh key for a host, and the request by which the authority certifies it. */
export async function createRequest(host: string): Promise<{ key: string; request: string }> {
  const keys = await createKeys();
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: `CN=${host}`,
    keys,
    signingAlgorithm: ALGORITHM,
  });
  return { key: await keyPem(keys.privateKey), request: request.toString("pem") };
}

/**
 * Signs a host's certificate. Of the request only the public key is used, after its proof of possession was
 * checked: the names are the caller's, who has verified that the applicant may bear them.
 */
export async function certifyHost(options: {
  authority: KeyAndCertificate;
  request: string;
  host: string;
  address: string;
  nowMs: number;
}): Promise<string> {
  const publicKey = await requestedKey(options.request);
  const authority = new X509Certificate(options.authority.certificate);
  const certificate = await X509CertificateGenerator.create({
    subject: `CN=${options.host}`,
    issuer: authority.subject,
    ...validity(options.nowMs, HOST_LIFE_MS),
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH]),
      new SubjectAlternativeNameExtension([
        { type: "dns", value: options.host },
        { type: "ip", value: options.address },
      ]),
    ],
    publicKey,
    signingKey: await importKey(options.authority.key),
    signingAlgorithm: ALGORITHM,
  });
  return `${certificate.toString("pem")}\n`;
}

async function requestedKey(pem: string): Promise<PublicKey> {
  try {
    const request = new Pkcs10CertificateRequest(pem);
    const algorithm = request.publicKey.algorithm as { name: string; namedCurve?: string };
    if (algorithm.name !== "ECDSA" || algorithm.namedCurve !== "P-256") {
      throw new Error("the key must be ECDSA P-256");
    }
    if (!(await request.verify())) throw new Error("its signature is wrong");
    return request.publicKey;
  } catch (cause) {
    throw new FtError({
      code: "BAD_REQUEST",
      subject: "certificate request",
      message: `the certificate request is not acceptable: ${(cause as Error).message}`,
      cause,
    });
  }
}

function validity(nowMs: number, lifeMs: number): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(nowMs - DAY_MS), notAfter: new Date(nowMs + lifeMs) };
}

async function createKeys(): Promise<webcrypto.CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey(ALGORITHM, true, [
    "sign",
    "verify",
  ])) as webcrypto.CryptoKeyPair;
}

async function keyPem(key: webcrypto.CryptoKey): Promise<string> {
  const pkcs8 = await webcrypto.subtle.exportKey("pkcs8", key);
  return `${PemConverter.encode(pkcs8, PemConverter.PrivateKeyTag)}\n`;
}

async function importKey(pem: string): Promise<webcrypto.CryptoKey> {
  const [pkcs8] = PemConverter.decode(pem);
  if (pkcs8 === undefined) throw new Error("no private key in the file");
  return webcrypto.subtle.importKey("pkcs8", pkcs8, ALGORITHM, false, ["sign"]);
}
