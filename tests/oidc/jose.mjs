// Tokens made and read by `jose`, which shares no code with the filter.
//
//   node jose.mjs sign < {"typ", "claims", "algorithms"}
//       a new key, and a `jti`, for each algorithm: {"jwks", "tokens": {ALG: TOKEN}}
//   node jose.mjs verify < {"token", "jwks", "issuer", "audience", "typ"}
//       the header and claims of a token that is good: {"protectedHeader", "payload"}
import { text } from 'node:stream/consumers';
import { SignJWT, createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify } from 'jose';

const input = JSON.parse(await text(process.stdin));

const actions = {
  async sign({ typ, claims, algorithms }) {
    const made = { jwks: { keys: [] }, tokens: {} };
    for (const alg of algorithms) {
      const kid = `jose-${alg}`;
      const { publicKey, privateKey } = await generateKeyPair(alg);
      made.jwks.keys.push({ ...await exportJWK(publicKey), kid, alg, use: 'sig' });
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
