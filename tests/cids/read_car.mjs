// Reads an archive of `dstor-sync export --car` with IPFS's own JavaScript implementation, and compares every file in it with
// the one on disk: node read_car.mjs ARCHIVE LIST, where LIST is what `dstor-sync export --json` says.
//
//   npm install @ipld/car@5.4.7 ipfs-unixfs-exporter@16.2.2
import { createHash } from 'node:crypto'
import { createReadStream, readFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { CarIndexedReader } from '@ipld/car/indexed-reader'
import { exporter } from 'ipfs-unixfs-exporter'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'

const [archive, list] = process.argv.slice(2)
const car = await CarIndexedReader.fromFile(archive)
const roots = new Set((await car.getRoots()).map(String))
// Every block is what its name says.
const blocks = {
  async * get (cid) {
    const { bytes } = await car.get(cid)
    const digest = await sha256.digest(bytes)
    if (Buffer.compare(digest.digest, cid.multihash.digest) !== 0) throw new Error(`${cid} is another block`)
    yield bytes
  }
}
const digest = async stream => {
  const hash = createHash('sha256')
  for await (const piece of stream) hash.update(piece)
  return hash.digest('hex')
}
let files = 0
for (const line of readFileSync(list, 'utf8').trim().split('\n').map(JSON.parse)) {
  if (!roots.has(line.hash)) throw new Error(`${line.path} is no root`)
  const entry = await exporter(CID.parse(line.hash), blocks)
  const [stored, local] = [await digest(entry.content()), await digest(createReadStream(line.path))]
  if (stored !== local) throw new Error(`${line.path} differs`)
  files++
}
console.log(`${files} files of ${roots.size} roots, all as on disk`)
await car.close?.()
