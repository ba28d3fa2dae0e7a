import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.*;
import java.util.concurrent.ThreadLocalRandom;

/** TPC-B through a pool. Arguments: URL, user, password, threads, number of the first client. A line for each transaction; it ends with its input. */
public class Pool {
  static volatile boolean over;

  public static void main(String[] args) throws Exception {
    HikariConfig config = new HikariConfig();
    config.setJdbcUrl(args[0]);
    config.setUsername(args[1]);
    config.setPassword(args[2]);
    config.setAutoCommit(false);
    int threads = Integer.parseInt(args[3]), first = Integer.parseInt(args[4]);
    config.setMaximumPoolSize(threads);
    config.setMinimumIdle(threads);
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
      long began = System.currentTimeMillis();
      String place = "login", code = "-";
      try (Connection c = pool.getConnection()) {
        place = "boundary";
        int delta = ThreadLocalRandom.current().nextInt(10000) - 5000, teller = ThreadLocalRandom.current().nextInt(160);
        place = run(c, "UPDATE accounts SET balance = balance + ? WHERE aid = ?", delta, ThreadLocalRandom.current().nextInt(1600));
        run(c, "UPDATE tellers SET balance = balance + ? WHERE tid = ?", delta, teller);
        run(c, "UPDATE branches SET balance = balance + ? WHERE bid = ?", delta, teller / 10);
        run(c, "INSERT INTO history VALUES (?, ?, ?, repeat('x', 200))", client, seq, delta);
        place = "commit";
        c.commit();
        place = "done";
      } catch (SQLException e) {
        code = e.getSQLState() == null ? "none" : e.getSQLState();
      }
      synchronized (System.out) {
        System.out.println(client + " " + seq + " " + began + " " + System.currentTimeMillis() + " " + place + " " + code);
      }
      try { Thread.sleep(25); } catch (InterruptedException e) { return; }
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
