import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs one tool of Kafka's after the other in one Java, which takes longer to start than most of them take to run.
 *
 * A line on standard input is a call: what the tool reads, its class and its arguments, each in base64, with blanks
 * between. The line that answers it is the tool's output, its errors, both in base64, and its exit code.
 */
public final class Tools {
    /** Unwinds a tool that wants to exit. Some catch what they can and exit again: the first time counts. */
    private static final class Exited extends RuntimeException {
    }

    private static ByteArrayOutputStream output;
    private static ByteArrayOutputStream errors;
    private static boolean exited;
    private static int code;
    private static final List<Runnable> hooks = new ArrayList<>();

    public static void main(String[] ignored) throws Exception {
        PrintStream answers = System.out;
        Exit.setExitProcedure((status, message) -> {
            if (!exited) {
                exited = true;
                code = status;
                System.out.flush();
                System.setOut(new PrintStream(OutputStream.nullOutputStream()));
                System.setErr(System.out);
            }
            throw new Exited();
        });
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        BufferedReader calls = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = calls.readLine(); line != null; line = calls.readLine()) {
            String[] parts = Arrays.stream(line.split(" ", -1)).map(Tools::decoded).toArray(String[]::new);
            output = new ByteArrayOutputStream();
            errors = new ByteArrayOutputStream();
            exited = false;
            code = 0;
            run(parts[0], parts[1], Arrays.copyOfRange(parts, 2, parts.length));
            answers.println(encoded(output) + " " + encoded(errors) + " " + code);
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static void run(String input, String tool, String[] arguments) throws Exception {
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        open();
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException failed) {
            if (!(failed.getCause() instanceof Exited)) {
                failed.getCause().printStackTrace(System.err);
                code = 1;
            }
        }
        open();
        hooks.forEach(Runnable::run);
        hooks.clear();
        System.out.flush();
    }

    private static void open() {
        System.setOut(new PrintStream(output, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(errors, true, StandardCharsets.UTF_8));
    }

    private static String encoded(ByteArrayOutputStream said) {
        return Base64.getEncoder().encodeToString(said.toByteArray());
    }

    private static String decoded(String part) {
        return new String(Base64.getDecoder().decode(part), StandardCharsets.UTF_8);
    }
}
