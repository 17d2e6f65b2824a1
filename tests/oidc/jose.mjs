// Tokens made and read by `jose`, which shares no code with the filter.
//
//   node jose.mjs sign < {"typ", "claims", "algorithms", "named"}
//       a new key, and a `jti`, for each algorithm: {"jwks", "pems": {ALG: PEM}, "tokens": {ALG: TOKEN}}
//       with `named` false, keys and tokens have no `kid`, and keys no `alg`
//   node jose.mjs verify < {"token", "jwks", "issuer", "audience", "typ"}
//       the header and claims of a token that is good: {"protectedHeader", "payload"}
import { text } from 'node:stream/consumers';
import { SignJWT, createLocalJWKSet, exportJWK, exportSPKI, generateKeyPair, jwtVerify } from 'jose';

const input = JSON.parse(await text(process.stdin));

const actions = {
  async sign({ typ, claims, algorithms, named = true }) {
    const made = { jwks: { keys: [] }, pems: {}, tokens: {} };
    for (const alg of algorithms) {
      const kid = named ? `jose-${alg}` : undefined;
      const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
      made.jwks.keys.push({ ...await exportJWK(publicKey), kid, alg: named ? alg : undefined, use: 'sig' });
      made.pems[alg] = await exportSPKI(publicKey);
      made.tokens[alg] = await new SignJWT({ ...claims, jti: `jose-${crypto.randomUUID()}` })
        .setProtectedHeader({ alg, kid, typ })
        .sign(privateKey);
    }
    return made;
  },
  async verify({ token, jwks, ...expected }) {
    const { payload, protectedHeader } = await jwtVerify(token, createLocalJWKSet(jwks), expected);
    return { payload, protectedHeader };
  },
};

console.log(JSON.stringify(await actions[process.argv[2]](input)));
