// Checks receipts with @sigstore/verify, which knows nothing of pfx-agent: the P-256 line of the
// checkpoint, and the entry's inclusion under its root.
//
//   node sigstore.js MODULES KEY.pem ORIGIN RECEIPT ENTRY [RECEIPT ENTRY ...]
//
// Prints how many receipts hold, and ends with 1 at the first that doesn't.
"use strict";
const { createHash, createPublicKey } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");

const [modules, keyFile, origin, ...files] = process.argv.slice(2);
const tlog = join(modules, "node_modules", "@sigstore", "verify", "dist", "tlog");
const { verifyCheckpoint } = require(join(tlog, "checkpoint.js"));
const { verifyMerkleInclusion } = require(join(tlog, "merkle.js"));

const publicKey = createPublicKey(readFileSync(keyFile));
const der = publicKey.export({ type: "spki", format: "der" });
const logs = [{ logID: createHash("sha256").update(der).digest(), baseURL: origin, publicKey }];

let held = 0;
for (let i = 0; i + 1 < files.length; i += 2) {
  const text = readFileSync(files[i], "utf8");
  const split = text.indexOf("\n\n");
  const [kind, index, ...hashes] = text.slice(0, split).split("\n");
  if (kind !== "c2sp.org/tlog-proof@v1") throw new Error(`${files[i]}: first line ${kind}`);
  const entry = {
    canonicalizedBody: readFileSync(files[i + 1]),
    inclusionProof: {
      logIndex: index.replace(/^index /, ""),
      hashes: hashes.map((hash) => Buffer.from(hash, "base64")),
      checkpoint: { envelope: text.slice(split + 2) },
    },
  };
  verifyMerkleInclusion(entry, verifyCheckpoint(entry, logs));
  held++;
}
console.log(`receipts ${held}`);
