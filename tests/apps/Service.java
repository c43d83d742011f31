/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What test_java.sh runs: a server with a pool of threads, on a socket of its own port, that computes, makes garbage, waits on locks and
 * queues; and clients for it in the same machine.  Prints the same each time.
 */
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.URL;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;

class Service {
  static byte[] answer(String path) throws Exception {
    byte[] b = path.getBytes();
    MessageDigest md = MessageDigest.getInstance("SHA-256");
    byte[][] garbage = new byte[20][];
    for (int i = 0; i < 50; i++) {
      b = md.digest(b);
      garbage[i % 20] = new byte[20000 + b[0]];
    }
    return new java.math.BigInteger(1, b).toString(16).getBytes();
  }

  static HttpServer serve(ExecutorService pool) throws Exception {
    HttpServer s = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 128);
    s.createContext("/", x -> {
      try {
        byte[] a = answer(x.getRequestURI().getPath());
        x.sendResponseHeaders(200, a.length);
        x.getResponseBody().write(a);
        x.close();
      } catch (Exception e) {
        e.printStackTrace();
        Runtime.getRuntime().halt(9);
      }
    });
    s.setExecutor(pool);
    s.start();
    return s;
  }

  static void requests(int port, ExecutorService clients) throws Exception {
    List<Future<String>> all = new ArrayList<>();
    for (int i = 0; i < 300; i++) {
      String path = "/" + i;
      all.add(clients.submit(() -> new String(new URL("http://127.0.0.1:" + port + path).openStream().readAllBytes())));
    }
    int sum = 0;
    for (Future<String> f : all) sum = sum * 31 + f.get().hashCode();
    System.out.println("requests " + sum);
  }

  static void queue() throws Exception {
    BlockingQueue<Integer> q = new ArrayBlockingQueue<>(10);
    for (int i = 0; i < 8; i++)
      new Thread(() -> {
        try {
          for (int k = 0; k < 1000; k++) q.put(k);
        } catch (InterruptedException e) {
          System.out.println("interrupted?");
        }
      }).start();
    long sum = 0;
    for (int i = 0; i < 8000; i++) sum += q.take();
    System.out.println("queue " + sum);
  }

  static int deep(int n) { return deep(n + 1) + 1; }

  static void faults() {
    try {
      Object none = null;
      none.hashCode();
    } catch (NullPointerException e) {
      System.out.println("null pointer");
    }
    try {
      deep(0);
    } catch (StackOverflowError e) {
      System.out.println("stack overflow");
    }
  }

  static void interrupts() throws Exception {
    Object lock = new Object();
    Thread[] all = {new Thread(Service::sleep), new Thread(() -> {
      synchronized (lock) {
        try {
          lock.wait();
        } catch (InterruptedException e) {
          System.out.println("interrupted");
        }
      }
    })};
    for (Thread t : all) {
      t.start();
      Thread.sleep(30);
      t.interrupt();
      t.join();
    }
  }

  static void sleep() {
    try {
      Thread.sleep(1000000);
    } catch (InterruptedException e) {
      System.out.println("interrupted");
    }
  }

  public static void main(String[] args) throws Exception {
    Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
    ExecutorService pool = Executors.newFixedThreadPool(32), clients = Executors.newFixedThreadPool(16);
    HttpServer s = serve(pool);
    requests(s.getAddress().getPort(), clients);
    s.stop(0);
    queue();
    System.out.println("parallel " + LongStream.range(0, 1000000).parallel().map(x -> x * x).sum());
    faults();
    Thread t = new Thread(Service::faults);
    t.start();
    t.join();
    interrupts();
    System.gc();
    pool.shutdown();
    clients.shutdown();
    System.out.println(pool.awaitTermination(10, TimeUnit.SECONDS) && clients.awaitTermination(10, TimeUnit.SECONDS));
    if (args.length > 0) System.in.read(); // until it is sent a signal
    System.exit(3);
  }
}
