// Steps with ali-oss, the SDK for Node.js.
'use strict'

const assert = require('node:assert/strict')
const { Readable, PassThrough } = require('node:stream')
const OSS = require('ali-oss')
const keys = require('./keys.json')

const { OSS_ENDPOINT, OSS_REGION, OSS_BUCKET, OSS_SIGNATURE, OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET } = process.env
const data = Buffer.from(Array.from({ length: 307200 }, (_, number) => number % 256))
const half = data.length / 2

const clientOf = (endpoint, more = {}) =>
  new OSS({
    ...more,
    accessKeyId: OSS_ACCESS_KEY_ID,
    accessKeySecret: OSS_ACCESS_KEY_SECRET,
    bucket: OSS_BUCKET,
    endpoint,
    region: `oss-${OSS_REGION}`,
    authorizationV4: OSS_SIGNATURE === 'v4'
  })
const client = clientOf(OSS_ENDPOINT)
// It signs no URLs for addresses; by a name the bucket stands in the path only when asked.
const named = clientOf(OSS_ENDPOINT.replace('127.0.0.1', 'localhost'), { sldEnable: true })

const refused = (status, code, work) =>
  assert.rejects(work, error => {
    assert.deepEqual([error.status, error.code], [status, code], error.message)
    return true
  })
const get = async key => (await client.get(key)).content

async function collected(stream) {
  const pieces = []
  for await (const piece of stream) pieces.push(piece)
  return Buffer.concat(pieces)
}

const steps = {
  async 'put and get'() {
    await client.put('k', data, { meta: { a: 'b' } })
    assert.deepEqual(await get('k'), data)
    const head = await client.head('k')
    assert.deepEqual([head.meta.a, Number(head.res.headers['content-length'])], ['b', data.length])
    const part = await client.get('k', { headers: { Range: 'bytes=10-19' } })
    assert.deepEqual(part.content, data.subarray(10, 20))
    assert.equal((await client.getObjectMeta('k')).res.headers['content-length'], String(data.length))
    await refused(404, 'NoSuchKey', client.get('missing'))
  },

  async stream() {
    await client.putStream('stream', Readable.from([data.subarray(0, half), data.subarray(half)]))
    assert.deepEqual(await collected((await client.getStream('stream')).stream), data)
    await client.putStream('stream', Readable.from([data]), { contentLength: data.length })
    const sink = new PassThrough()
    const [, stored] = await Promise.all([client.get('stream', sink), collected(sink)])
    assert.deepEqual(stored, data)
  },

  async conditions() {
    const { res } = await client.put('k', data)
    assert.deepEqual((await client.get('k', { headers: { 'If-Match': res.headers.etag } })).content, data)
    await refused(412, 'PreconditionFailed', client.get('k', { headers: { 'If-Match': '"other"' } }))
    const spare = { headers: { 'x-oss-forbid-overwrite': 'true' } }
    await refused(409, 'FileAlreadyExists', client.put('k', data, spare))
  },

  async 'odd keys'() {
    const names = keys.map(key => `odd/${key}`)
    for (const name of names) {
      await client.put(name, Buffer.from(name))
      assert.equal(String(await get(name)), name)
    }
    const listed = []
    let token
    do {
      const page = await client.listV2({ prefix: 'odd/', 'max-keys': 5, 'continuation-token': token, 'encoding-type': 'url' })
      listed.push(...page.objects.map(entry => decodeURIComponent(entry.name)))
      token = page.nextContinuationToken
    } while (token)
    assert.deepEqual(new Set(listed), new Set(names))
    await client.deleteMulti(names)
    assert.deepEqual((await client.listV2({ prefix: 'odd/' })).objects, [])
  },

  async list() {
    for (const key of ['list/a', 'list/dir/1', 'list/dir/2', 'list/z']) await client.put(key, Buffer.from(key))
    const page = await client.list({ prefix: 'list/', delimiter: '/', 'max-keys': 10 })
    assert.deepEqual(page.objects.map(entry => entry.name), ['list/a', 'list/z'])
    assert.deepEqual(page.prefixes, ['list/dir/'])
    const first = await client.list({ prefix: 'list/', 'max-keys': 2 })
    assert.deepEqual([first.isTruncated, first.nextMarker], [true, 'list/dir/1'])
  },

  async multipart() {
    const { uploadId } = await client.initMultipartUpload('parts')
    const parts = []
    for (const [index, piece] of [data.subarray(0, half), data.subarray(half)].entries()) {
      const source = { stream: Readable.from([piece]), size: piece.length }
      const { etag } = await client._uploadPart('parts', uploadId, index + 1, source)
      parts.push({ number: index + 1, etag })
    }
    assert.equal((await client.listParts('parts', uploadId)).parts.length, 2)
    assert.deepEqual((await client.listUploads({ prefix: 'parts', 'max-uploads': 10 })).uploads.map(found => found.uploadId), [uploadId])
    await client.completeMultipartUpload('parts', uploadId, parts)
    assert.deepEqual(await get('parts'), data)
    await refused(404, 'NoSuchUpload', client.abortMultipartUpload('parts', uploadId))
    await client.multipartUpload('managed', data, { partSize: 102400, parallel: 2 })
    assert.deepEqual(await get('managed'), data)
  },

  async copy() {
    await client.put('copy/source é', data)
    await client.copy('copy/target', 'copy/source é')
    const [source, target] = await Promise.all(['copy/source é', 'copy/target'].map(key => client.head(key)))
    assert.equal(target.res.headers['x-oss-hash-crc64ecma'], source.res.headers['x-oss-hash-crc64ecma'])
    await client.copy('copy/target', 'copy/source é', { headers: { 'Cache-Control': 'no-cache' } })
    assert.equal((await client.head('copy/target')).res.headers['cache-control'], 'no-cache')
    await refused(412, 'PreconditionFailed', client.copy('copy/target', 'copy/source é', { headers: { 'If-Match': 'other' } }))
    const from = { sourceKey: 'copy/source é', sourceBucketName: OSS_BUCKET }
    await client.multipartUploadCopy('copy/parts', from, { partSize: 102400, parallel: 2 })
    assert.deepEqual(await get('copy/parts'), data)
  },

  async append() {
    const { nextAppendPosition } = await client.append('append', data.subarray(0, half))
    await client.append('append', data.subarray(half), { position: nextAppendPosition })
    assert.deepEqual(await get('append'), data)
    await assert.rejects(client.append('append', data), {
      name: 'PositionNotEqualToLengthError',
      message: 'Position is not equal to file length'
    })
  },

  async presign() {
    for (const key of ['presign/k', 'presign/space é']) {
      const url = async (method, more = {}) =>
        OSS_SIGNATURE === 'v4'
          ? named.signatureUrlV4(method, 600, { ...more }, key)
          : named.signatureUrl(key, { method, expires: 600, ...more.queries })
      assert.equal((await fetch(await url('PUT'), { method: 'PUT', body: data })).status, 200)
      const answer = await fetch(await url('GET'))
      assert.deepEqual(Buffer.from(await answer.arrayBuffer()), data)
    }
  },

  async form() {
    const date = new Date()
    const stamp = `${date.toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`
    const told = {
      'x-oss-signature-version': 'OSS4-HMAC-SHA256',
      'x-oss-credential': `${OSS_ACCESS_KEY_ID}/${stamp.slice(0, 8)}/${OSS_REGION}/oss/aliyun_v4_request`,
      'x-oss-date': stamp
    }
    const isV4 = OSS_SIGNATURE === 'v4'
    const policy = {
      expiration: new Date(Date.now() + 600000).toISOString(),
      conditions: [['starts-with', '$key', 'form/'], ...(isV4 ? Object.entries(told).map(([name, value]) => ({ [name]: value })) : [])]
    }
    const signed = isV4
      ? { ...told, policy: Buffer.from(JSON.stringify(policy)).toString('base64'), 'x-oss-signature': client.signPostObjectPolicyV4(policy, date) }
      : client.calculatePostSignature(policy)
    const form = new FormData()
    for (const [name, value] of Object.entries({ key: 'form/${filename}', ...signed })) form.set(name, value)
    form.set('file', new Blob([data]), 'a.bin')
    const answer = await fetch(`${OSS_ENDPOINT}/${OSS_BUCKET}`, { method: 'POST', body: form })
    assert.equal(answer.status, 204, await answer.text())
    assert.deepEqual(await get('form/a.bin'), data)
  },

  async bucket() {
    const { bucket } = await client.getBucketInfo(OSS_BUCKET)
    assert.deepEqual([bucket.Name, bucket.DataRedundancyType, bucket.Comment], [OSS_BUCKET, 'LRS', ''])
    const there = clientOf(bucket.ExtranetEndpoint)
    await there.put('by-its-endpoint', Buffer.from('x'))
    const { buckets } = await client.listBuckets({ 'max-keys': 100 })
    assert.ok(buckets.some(found => found.name === OSS_BUCKET))
    assert.equal((await client.getBucketLocation(OSS_BUCKET)).location, `oss-${OSS_REGION}`)
    assert.ok(Number((await client.getBucketStat(OSS_BUCKET)).stat.ObjectCount) > 0)
    await client.putBucketACL(OSS_BUCKET, 'public-read')
    assert.equal((await client.getBucketACL(OSS_BUCKET)).acl, 'public-read')
    assert.equal(await (await fetch(`${OSS_ENDPOINT}/${OSS_BUCKET}/by-its-endpoint`)).text(), 'x')
    await client.putBucket(`${OSS_BUCKET}-other`)
    await client.deleteBucket(`${OSS_BUCKET}-other`)
    await refused(404, 'NoSuchBucket', client.getBucketInfo(`${OSS_BUCKET}-other`))
  },

  async attributes() {
    await client.put('attributes', data, { headers: { 'x-oss-server-side-encryption': 'AES256' } })
    await client.putACL('attributes', 'public-read')
    assert.equal((await client.getACL('attributes')).acl, 'public-read')
    await client.putObjectTagging('attributes', { 'a b': '1', c: '2' })
    assert.deepEqual((await client.getObjectTagging('attributes')).tag, { 'a b': '1', c: '2' })
    await client.deleteObjectTagging('attributes')
    assert.deepEqual((await client.getObjectTagging('attributes')).tag, {})
    assert.equal((await client.head('attributes')).res.headers['x-oss-server-side-encryption'], 'AES256')
  },

  async symlink() {
    await client.put('symlink/target', data)
    await client.putSymlink('symlink/link', 'symlink/target')
    assert.equal((await client.getSymlink('symlink/link')).targetName, 'symlink/target')
    assert.deepEqual(await get('symlink/link'), data)
  },

  async restore() {
    await client.put('cold', data, { headers: { 'x-oss-storage-class': 'Archive' } })
    await refused(403, 'InvalidObjectState', client.get('cold'))
    assert.equal((await client.restore('cold')).res.status, 202)
    assert.equal((await client.head('cold')).res.headers['x-oss-restore'], 'ongoing-request="true"')
    await refused(409, 'RestoreAlreadyInProgress', client.restore('cold'))
  },

  async 'what is missing is named'() {
    await refused(501, 'NotImplemented', client.getBucketLifecycle(OSS_BUCKET))
    await refused(501, 'NotImplemented', client.put('callback', data, { callback: { url: 'http://localhost', body: 'a' } }))
    await refused(404, 'NoSuchKey', client.head('callback'))
  },

  async delete() {
    await client.put('delete', data)
    for (let count = 0; count < 2; count++) assert.equal((await client.delete('delete')).res.status, 204)
    await refused(404, 'NoSuchKey', client.get('delete'))
  }
}

async function main() {
  let failed = 0
  for (const [title, step] of Object.entries(steps)) {
    try {
      await step()
    } catch (error) {
      failed++
      console.log(`ali-oss ${OSS_SIGNATURE}: ${title}\n`, error)
    }
  }
  const count = Object.keys(steps).length
  console.log(`ali-oss ${OSS_SIGNATURE}: ${count - failed} of ${count} steps`)
  process.exit(failed ? 1 : 0)
}

main()
