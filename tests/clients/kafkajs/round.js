// One round with KafkaJS: admin, produce, group, transactions. Prints what it found as one line of JSON.
const { CompressionTypes, Kafka, logLevel } = require('kafkajs')

const [bootstrap, topic] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'kafkajs', brokers: bootstrap.split(','), logLevel: logLevel.NOTHING })

async function administer(admin) {
  const topics = [{ topic, numPartitions: 2, configEntries: [{ name: 'retention.ms', value: '600000' }] }]
  // Its own wait for leaders gives up where the node that it asks has not heard of the topic yet.
  const created = await admin.createTopics({ topics, waitForLeaders: false })
  for (let tries = 0; !(await admin.listTopics()).includes(topic); tries++) {
    if (tries === 100) throw new Error(`no node knows ${topic}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
  const described = await admin.describeConfigs({
    resources: [{ type: 2, name: topic, configNames: ['retention.ms'] }],
  })
  return { created, retention: described.resources[0].configEntries[0].configValue }
}

async function produce() {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const messages = ['a', 'b', 'c'].map((value) => ({ value, key: value, headers: { by: 'kafkajs' }, partition: 0 }))
  const [first] = await producer.send({ topic, messages, compression: CompressionTypes.GZIP })
  await producer.disconnect()
  return first.baseOffset
}

async function transact() {
  const producer = kafka.producer({ transactionalId: topic, maxInFlightRequests: 1, idempotent: true })
  await producer.connect()
  for (const [value, commit] of [['aborted', false], ['kept', true]]) {
    const transaction = await producer.transaction()
    await transaction.send({ topic, messages: [{ value, partition: 0 }] })
    if (commit) {
      const partitions = [{ partition: 0, offset: '3' }]
      await transaction.sendOffsets({ consumerGroupId: `${topic}-sent`, topics: [{ topic, partitions }] })
      await transaction.commit()
    } else {
      await transaction.abort()
    }
  }
  await producer.disconnect()
}

async function consume(count) {
  const consumer = kafka.consumer({ groupId: topic, readUncommitted: false })
  const values = []
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`${values.length} of ${count} messages`)), 20000).unref()
    const eachMessage = async ({ message }) => {
      values.push(message.value.toString())
      if (values.length === count) resolve()
    }
    consumer.run({ eachMessage }).catch(reject)
  })
  await consumer.stop()
  await consumer.disconnect()
  return values
}

// A broker of Apache Kafka's learns of a deletion a little later.
async function isThereStill(admin) {
  const giveUp = Date.now() + 20000
  let left = true
  while (left && Date.now() < giveUp) left = (await admin.listTopics()).includes(topic)
  return left
}

async function round() {
  const admin = kafka.admin()
  await admin.connect()
  const found = await administer(admin)
  found.baseOffset = await produce()
  await transact()
  found.values = await consume(4)
  const sent = await admin.fetchOffsets({ groupId: `${topic}-sent`, topics: [topic] })
  found.sent = sent[0].partitions.find(({ partition }) => partition === 0).offset
  const read = await admin.fetchOffsets({ groupId: topic, topics: [topic] })
  found.read = read[0].partitions.find(({ partition }) => partition === 0).offset
  found.group = (await admin.describeGroups([topic])).groups[0].state
  await admin.deleteGroups([topic])
  await admin.deleteTopics({ topics: [topic] })
  found.left = await isThereStill(admin)
  await admin.disconnect()
  console.log(JSON.stringify(found))
}

round().catch((error) => {
  console.error(error)
  process.exit(1)
})
