import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What Kafka's tools do not do: transactions by hand, fencing, the group protocols. Arguments: round, bootstrap, topics. */
public final class Client {
    private static final Duration PATIENCE = Duration.ofSeconds(20);

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "transactions" -> transactions(arguments[1], arguments[2], arguments[3]);
            case "fencing" -> fencing(arguments[1], arguments[2]);
            case "group" -> group(arguments[1], arguments[2], arguments[3]);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    /** Copies what is in one topic to another, first in a transaction that is aborted, then in one that is not. */
    private static void transactions(String bootstrap, String source, String target) {
        try (KafkaConsumer<String, String> consumer = consumer(bootstrap, Map.of("group.id", source));
                KafkaProducer<String, String> producer = producer(bootstrap, Map.of("transactional.id", source))) {
            producer.initTransactions();
            consumer.subscribe(List.of(source));
            ConsumerRecords<String, String> records = next(consumer);
            for (boolean commit : List.of(false, true)) {
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                producer.beginTransaction();
                for (ConsumerRecord<String, String> record : records) {
                    producer.send(new ProducerRecord<>(target, (commit ? "kept " : "aborted ") + record.value()));
                    offsets.put(new TopicPartition(source, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                producer.flush(); // what an abort finds unsent is never written
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                if (commit) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
                Set<TopicPartition> partitions = offsets.keySet();
                System.out.println((commit ? "committed " : "aborted ") + consumer.committed(partitions).values().stream()
                        .map(committed -> committed == null ? "nothing" : String.valueOf(committed.offset())).toList());
            }
            consumer.unsubscribe();
            consumer.assign(List.of(new TopicPartition(target, 0)));
            consumer.seekToBeginning(consumer.assignment());
            next(consumer).forEach(record -> System.out.println("read " + record.value()));
        }
    }

    /** A second producer of one transactional id; what the first one meets. */
    private static void fencing(String bootstrap, String topic) throws Exception {
        Map<String, Object> id = Map.of("transactional.id", topic);
        try (KafkaProducer<String, String> first = producer(bootstrap, id);
                KafkaProducer<String, String> second = producer(bootstrap, id)) {
            first.initTransactions();
            first.beginTransaction();
            first.send(new ProducerRecord<>(topic, "left")).get();
            second.initTransactions();
            second.beginTransaction();
            second.send(new ProducerRecord<>(topic, "taken over")).get();
            second.commitTransaction();
            try {
                first.send(new ProducerRecord<>(topic, "too late")).get();
                first.commitTransaction();
                System.out.println("not fenced");
            } catch (ProducerFencedException fenced) {
                System.out.println("fenced");
            } catch (ExecutionException | KafkaException failed) {
                Throwable cause = failed.getCause() == null ? failed : failed.getCause();
                System.out.println("fenced by " + cause.getClass().getSimpleName());
            }
        }
    }

    /** Joins a group by one of the protocols, and says what came of it and how soon. */
    private static void group(String bootstrap, String topic, String protocol) {
        Map<String, Object> settings = Map.of("group.id", topic + protocol, "group.protocol", protocol);
        long began = System.nanoTime();
        try (KafkaConsumer<String, String> consumer = consumer(bootstrap, settings)) {
            consumer.subscribe(List.of(topic));
            System.out.println("read " + next(consumer).count());
        } catch (KafkaException refused) {
            System.out.println("refused with " + refused.getClass().getSimpleName() + ": " + refused.getMessage());
        }
        System.out.println("after " + (System.nanoTime() - began) / 1_000_000_000L + " s");
    }

    private static ConsumerRecords<String, String> next(KafkaConsumer<String, String> consumer) {
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (System.nanoTime() < end) {
            ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
            if (!records.isEmpty()) {
                return records;
            }
        }
        throw new IllegalStateException("nothing to read within " + PATIENCE.toSeconds() + " s");
    }

    private static KafkaConsumer<String, String> consumer(String bootstrap, Map<String, Object> more) {
        Map<String, Object> settings = new HashMap<>(more);
        settings.put("bootstrap.servers", bootstrap);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", false);
        settings.put("isolation.level", "read_committed");
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    private static KafkaProducer<String, String> producer(String bootstrap, Map<String, Object> more) {
        Map<String, Object> settings = new HashMap<>(more);
        settings.put("bootstrap.servers", bootstrap);
        settings.put("max.block.ms", PATIENCE.toMillis());
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }
}
