import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.*;
import java.util.*;
import java.util.concurrent.ThreadLocalRandom;
import org.postgresql.jdbc.PgConnection;

/** TPC-B through a pool. Arguments: URL, user, password, threads, number of the first client. A line for each transaction; it ends with its input. */
public class Pool {
  static volatile boolean over;

  /** The pool's connections, numbered as they were first used. */
  static final Map<Connection, Integer> connections = Collections.synchronizedMap(new IdentityHashMap<>());

  public static void main(String[] args) throws Exception {
    HikariConfig config = new HikariConfig();
    config.setJdbcUrl(args[0]);
    config.setUsername(args[1]);
    config.setPassword(args[2]);
    config.setAutoCommit(false);
    int threads = Integer.parseInt(args[3]), first = Integer.parseInt(args[4]);
    config.setMaximumPoolSize(threads);
    config.setMinimumIdle(threads);
    config.setMaxLifetime(0); // a connection that ends has not been ended by its age
    Thread[] all = new Thread[threads];
    try (HikariDataSource pool = new HikariDataSource(config)) {
      for (int i = 0; i < threads; i++) {
        int client = first + i;
        all[i] = new Thread(() -> serve(pool, client));
        all[i].start();
      }
      while (System.in.read() >= 0) {}
      over = true;
      for (Thread t : all) t.join();
    }
  }

  static void serve(HikariDataSource pool, int client) {
    for (long seq = 1; !over; seq++) {
      long began = System.currentTimeMillis(), ended = began;
      String place = "login", code = "-";
      int connection = -1, process = 0;
      try (Connection c = pool.getConnection()) {
        place = "boundary";
        connection = number(c.unwrap(PgConnection.class));
        int delta = ThreadLocalRandom.current().nextInt(10000) - 5000, teller = ThreadLocalRandom.current().nextInt(160);
        place = run(c, "UPDATE accounts SET balance = balance + ? WHERE aid = ?", delta, ThreadLocalRandom.current().nextInt(1600));
        run(c, "UPDATE tellers SET balance = balance + ? WHERE tid = ?", delta, teller);
        run(c, "UPDATE branches SET balance = balance + ? WHERE bid = ?", delta, teller / 10);
        process = write(c, "INSERT INTO history VALUES (?, ?, ?, repeat('x', 200)) RETURNING pg_backend_pid()", client, seq, delta);
        place = "commit";
        c.commit();
        place = "done";
        ended = System.currentTimeMillis();
        pause(); // with the connection in hand: so every connection of the pool is used all the time
      } catch (SQLException e) {
        ended = System.currentTimeMillis();
        code = e.getSQLState() == null ? "none" : e.getSQLState();
      }
      synchronized (System.out) {
        System.out.println(client + " " + seq + " " + began + " " + ended + " " + place + " " + code + " " + connection + " " + process);
      }
      if (place != "done") pause();
    }
  }

  static void pause() {
    try { Thread.sleep(100); } catch (InterruptedException e) { over = true; }
  }

  static int number(Connection c) {
    synchronized (connections) {
      return connections.computeIfAbsent(c, unknown -> connections.size());
    }
  }

  /** Runs an INSERT that returns the number of the server process. */
  static int write(Connection c, String sql, Object... values) throws SQLException {
    try (PreparedStatement s = c.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
      try (ResultSet r = s.executeQuery()) {
        r.next();
        return r.getInt(1);
      }
    }
  }

  static String run(Connection c, String sql, Object... values) throws SQLException {
    try (PreparedStatement s = c.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
      s.execute();
    }
    return "transaction";
  }
}
