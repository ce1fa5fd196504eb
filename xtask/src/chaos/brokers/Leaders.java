// Moves the leaders of a topic's partitions, each time a line comes; says who leads when asked.
//     java -cp 'jars/*' Leaders.java host:port,host:port topic
// "move": every partition's leader becomes its next replica. "who": leaders and replicas in sync, as JSON.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.*;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;

public class Leaders {
    public static void main(String[] words) throws Exception {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", words[0]);
        settings.put("request.timeout.ms", 3000);
        settings.put("default.api.timeout.ms", 6000);
        settings.put("reconnect.backoff.max.ms", 200);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        try (Admin admin = Admin.create(settings)) {
            for (String line; (line = lines.readLine()) != null; ) {
                String said;
                try {
                    said = line.equals("move") ? move(admin, words[1]) : who(admin, words[1]);
                } catch (Exception error) {
                    said = "{\"error\": \"" + String.valueOf(error).replaceAll("[\"\\\\\n]", " ") + "\"}";
                }
                System.out.println(said);
                System.out.flush();
            }
        }
    }

    static List<TopicPartitionInfo> partitions(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get(6, TimeUnit.SECONDS).get(topic).partitions();
    }

    static String move(Admin admin, String topic) throws Exception {
        Map<TopicPartition, Optional<NewPartitionReassignment>> wanted = new HashMap<>();
        for (TopicPartitionInfo partition : partitions(admin, topic)) {
            List<Integer> replicas = new ArrayList<>();
            for (Node node : partition.replicas()) replicas.add(node.id());
            Collections.rotate(replicas, -1);
            wanted.put(new TopicPartition(topic, partition.partition()), Optional.of(new NewPartitionReassignment(replicas)));
        }
        admin.alterPartitionReassignments(wanted).all().get(6, TimeUnit.SECONDS);
        int moved = 0;
        for (Optional<Throwable> failed : admin.electLeaders(ElectionType.PREFERRED, wanted.keySet()).partitions().get(6, TimeUnit.SECONDS).values())
            if (failed.isEmpty()) moved++;
        return "{\"moved\": " + moved + "}";
    }

    static String who(Admin admin, String topic) throws Exception {
        StringBuilder leaders = new StringBuilder(), inSync = new StringBuilder();
        for (TopicPartitionInfo partition : partitions(admin, topic)) {
            if (leaders.length() > 0) { leaders.append(", "); inSync.append(", "); }
            leaders.append(partition.leader() == null ? -1 : partition.leader().id());
            inSync.append(partition.isr().size());
        }
        return "{\"leaders\": [" + leaders + "], \"in_sync\": [" + inSync + "]}";
    }
}
