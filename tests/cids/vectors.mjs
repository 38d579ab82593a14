// Prints the identifiers that IPFS's own JavaScript implementation gives the contents which the vectors in src/mirror/cid.rs
// are of, in their form, so that anyone can make them again:
//
//   cd "$(mktemp -d)" && npm install ipfs-unixfs-importer@17.1.1 && cp …/tests/cids/vectors.mjs . && node vectors.mjs
//
// The rules are those that `ipfs add` has kept since its beginning: chunks of one size, 174 links a node, a balanced tree,
// each leaf wrapped, CIDv0.
import { createHash } from 'node:crypto'
import { importer } from 'ipfs-unixfs-importer'
import { balanced } from 'ipfs-unixfs-importer/layout'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'

// SHA-512 of the little-endian 64-bit numbers 0, 1, 2 …, one after another.
function content (length) {
  const parts = []
  for (let counter = 0n, bytes = 0; bytes < length; counter += 1n, bytes += 64) {
    const number = Buffer.alloc(8)
    number.writeBigUInt64LE(counter)
    parts.push(createHash('sha512').update(number).digest())
  }
  return Buffer.concat(parts).subarray(0, length)
}

// It keeps no block: only the last one's name is asked for.
const nowhere = { put: async cid => cid }

async function cid (bytes, chunkSize) {
  const source = (async function * () {
    for (let at = 0; at < bytes.length; at += 1 << 20) yield bytes.subarray(at, at + (1 << 20))
  })()
  const options = {
    cidVersion: 0,
    rawLeaves: false,
    reduceSingleLeafToSelf: true,
    chunker: fixedSize({ chunkSize }),
    layout: balanced({ maxChildrenPerNode: 174 })
  }
  let last
  for await (const entry of importer([{ content: source }], nowhere, options)) last = entry
  return last.cid.toString()
}

const usual = 256 * 1024
const all = content(174 * usual + 1)
const lengths = [0, 1, usual - 1, usual, usual + 1, 174 * usual - 1, 174 * usual, 174 * usual + 1].map(n => [n, usual])
lengths.push(...[-1, 0, 1].map(more => [174 * 174 * 16 + more, 16]))
for (const [length, chunk] of lengths) {
  console.log(`(${length}, ${chunk}, "${await cid(all.subarray(0, length), chunk)}"),`)
}
console.log(`hello world: "${await cid(Buffer.from('hello world\n'), usual)}"`)
