import java.io.StringReader;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** What an application does through JDBC; everything it sees is printed. Arguments: the URL, the user, the password. */
public class Jdbc {
  static Connection c;

  public static void main(String[] args) throws Exception {
    Properties p = new Properties();
    p.setProperty("user", args[1]);
    p.setProperty("password", args[2]);
    c = DriverManager.getConnection(args[0], p);
    part("batches", Jdbc::batches);
    part("fetch size", Jdbc::fetchSize);
    part("query timeout", Jdbc::queryTimeout);
    part("cancel", Jdbc::cancel);
    part("copy", Jdbc::copy);
    part("notifications", Jdbc::notifications);
    part("savepoints", Jdbc::savepoints);
    part("prepared", Jdbc::prepared);
    part("valid", () -> { System.out.println(c.isValid(5)); System.out.println(c.isReadOnly() + " " + c.getTransactionIsolation()); });
    part("large objects", Jdbc::largeObjects);
    part("functions", Jdbc::functions);
    part("meta data", Jdbc::metaData);
    part("autosave", Jdbc::autosave);
    part("generated keys", Jdbc::generatedKeys);
    part("terminated", Jdbc::terminated);
    c.close();
  }

  interface Part { void run() throws Exception; }

  /** A failure is printed as the server put it, and the rest goes on. */
  static void part(String name, Part part) {
    System.out.println("== " + name);
    try {
      part.run();
      if (!c.isClosed()) {
        if (!c.getAutoCommit()) { c.rollback(); }
        c.setAutoCommit(true);
      }
    } catch (Exception e) {
      told(e);
    }
  }

  static void told(Exception e) {
    for (Throwable t = e; t != null; t = t instanceof SQLException ? ((SQLException) t).getNextException() : null) {
      String state = t instanceof SQLException ? ((SQLException) t).getSQLState() : "";
      System.out.println(t.getClass().getSimpleName() + " " + state + " " + t.getMessage());
    }
  }

  static void exec(String sql) throws SQLException {
    try (Statement s = c.createStatement()) { System.out.println(sql + ": " + s.execute(sql) + " " + s.getUpdateCount()); }
  }

  static void rows(ResultSet r) throws SQLException {
    ResultSetMetaData m = r.getMetaData();
    int n = 0;
    while (r.next()) {
      StringBuilder line = new StringBuilder();
      for (int i = 1; i <= m.getColumnCount(); i++) {
        Object o = r.getObject(i);
        if (o instanceof byte[]) { o = new String((byte[]) o, StandardCharsets.ISO_8859_1); }
        line.append(m.getColumnName(i)).append('=').append(o).append(' ');
      }
      if (n++ < 12) { System.out.println(line); }
    }
    System.out.println(n + " rows");
    r.close();
  }

  static void batches() throws Exception {
    exec("CREATE TEMP TABLE b (i int PRIMARY KEY, v text)");
    try (PreparedStatement s = c.prepareStatement("INSERT INTO b VALUES (?, ?)")) {
      for (int i = 0; i < 2000; i++) {
        s.setInt(1, i);
        s.setString(2, "value " + i);
        s.addBatch();
      }
      long sum = 0;
      for (int n : s.executeBatch()) { sum += n; }
      System.out.println("inserted " + sum);
      for (int i : new int[] {3000, 1, 3001}) {
        s.setInt(1, i);
        s.setString(2, "x");
        s.addBatch();
      }
      try {
        s.executeBatch();
      } catch (BatchUpdateException e) {
        for (int n : e.getUpdateCounts()) { System.out.println("count " + n); }
        told(e);
      }
    }
    try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT count(*), sum(i) FROM b")) { rows(r); }
  }

  static void fetchSize() throws Exception {
    c.setAutoCommit(false);
    try (PreparedStatement s = c.prepareStatement("SELECT i, md5(i::text) AS m FROM generate_series(1, 5000) i")) {
      s.setFetchSize(37);
      rows(s.executeQuery());
      s.setMaxRows(50);
      rows(s.executeQuery());
    }
    c.commit();
  }

  static void queryTimeout() throws Exception {
    try (Statement s = c.createStatement()) {
      s.setQueryTimeout(1);
      s.execute("SELECT pg_sleep(60)");
    } catch (SQLException e) {
      told(e);
    }
    exec("SELECT 'after the timeout'");
  }

  static void cancel() throws Exception {
    try (Statement s = c.createStatement()) {
      Thread t = new Thread(() -> {
        try {
          Thread.sleep(300);
          s.cancel();
        } catch (Exception e) {
          told(e);
        }
      });
      t.start();
      try {
        s.execute("SELECT pg_sleep(60)");
      } catch (SQLException e) {
        told(e);
      }
      t.join();
    }
    exec("SELECT 'after the cancel'");
  }

  static void copy() throws Exception {
    exec("CREATE TEMP TABLE cp (i int, v text)");
    CopyManager m = c.unwrap(PGConnection.class).getCopyAPI();
    StringBuilder in = new StringBuilder();
    for (int i = 0; i < 30000; i++) { in.append(i).append("\tvalue ").append(i).append('\n'); }
    System.out.println("in " + m.copyIn("COPY cp FROM STDIN", new StringReader(in.toString())));
    StringWriter out = new StringWriter();
    System.out.println("out " + m.copyOut("COPY cp TO STDOUT", out) + " same " + out.toString().equals(in.toString()));
    try {
      m.copyIn("COPY cp FROM STDIN", new StringReader("no number\tx\n"));
    } catch (SQLException e) {
      told(e);
    }
    exec("SELECT 'after a bad copy'");
  }

  static void notifications() throws Exception {
    PGConnection pg = c.unwrap(PGConnection.class);
    exec("LISTEN java");
    exec("NOTIFY java, 'own'");
    PGNotification[] got = pg.getNotifications(5000);
    try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT pg_backend_pid()")) {
      r.next();
      System.out.println("the process is the backend's: " + (r.getInt(1) == pg.getBackendPID()));
    }
    for (PGNotification n : got) { System.out.println(n.getName() + " " + n.getParameter() + " own " + (n.getPID() == pg.getBackendPID())); }
    exec("UNLISTEN *");
  }

  static void savepoints() throws Exception {
    c.setAutoCommit(false);
    exec("CREATE TEMP TABLE sp (i int) ON COMMIT DROP");
    exec("INSERT INTO sp VALUES (1)");
    Savepoint s = c.setSavepoint("one");
    exec("INSERT INTO sp VALUES (2)");
    try {
      exec("SELECT 1/0");
    } catch (SQLException e) {
      told(e);
    }
    try {
      exec("SELECT 'in a failed transaction'");
    } catch (SQLException e) {
      told(e);
    }
    c.rollback(s);
    try (Statement q = c.createStatement(); ResultSet r = q.executeQuery("SELECT * FROM sp")) { rows(r); }
    c.commit();
  }

  /** More than prepareThreshold times: the statement gets a name on the server and its rows come in binary. */
  static void prepared() throws Exception {
    String sql = "SELECT ?::int AS i, ?::bigint AS l, ?::float8 AS d, ?::numeric AS n, ?::text AS t, ?::bytea AS b, ?::timestamptz AS ts, ?::date AS dt, ?::bool AS bo, "
        + "ARRAY[1, NULL, ?::int] AS a, '550e8400-e29b-41d4-a716-446655440000'::uuid AS u";
    try (PreparedStatement s = c.prepareStatement(sql)) {
      for (int i = 0; i < 9; i++) {
        s.setInt(1, i);
        s.setLong(2, i * 10_000_000_000L);
        s.setDouble(3, i / 3.0);
        s.setBigDecimal(4, new java.math.BigDecimal("12345.678").add(java.math.BigDecimal.valueOf(i)));
        s.setString(5, "ä" + i);
        s.setBytes(6, new byte[] {0, (byte) i, (byte) 255});
        s.setTimestamp(7, new Timestamp(1_700_000_000_000L + i));
        s.setDate(8, Date.valueOf("2024-02-29"));
        s.setBoolean(9, i % 2 == 0);
        s.setInt(10, i);
        rows(s.executeQuery());
      }
    }
    try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT $1::int AS i%'")) { rows(r); }
    exec("DISCARD ALL");
    exec("SELECT 'after DISCARD ALL'");
  }

  static void largeObjects() throws Exception {
    c.setAutoCommit(false);
    LargeObjectManager m = c.unwrap(PGConnection.class).getLargeObjectAPI();
    long id = m.createLO(LargeObjectManager.READWRITE);
    LargeObject o = m.open(id, LargeObjectManager.READWRITE);
    byte[] data = new byte[300_000];
    for (int i = 0; i < data.length; i++) { data[i] = (byte) (i * 7); }
    o.write(data);
    o.seek(100);
    byte[] back = o.read(1000);
    System.out.println(back.length + " " + back[0] + " " + o.tell() + " " + o.size());
    o.close();
    m.delete(id);
    c.commit();
  }

  static void functions() throws Exception {
    try (CallableStatement s = c.prepareCall("{? = call upper(?)}")) {
      s.registerOutParameter(1, Types.VARCHAR);
      s.setString(2, "äbc");
      s.execute();
      System.out.println(s.getString(1));
    }
    try (Statement s = c.createStatement()) {
      boolean more = s.execute("SELECT 1 AS a; SELECT 2 AS b, 3 AS c; DO $$BEGIN RAISE NOTICE 'noticed'; END$$; SELECT 4 AS d");
      while (more || s.getUpdateCount() != -1) {
        if (more) { rows(s.getResultSet()); }
        more = s.getMoreResults();
      }
      for (SQLWarning w = s.getWarnings(); w != null; w = w.getNextWarning()) { System.out.println("warning " + w.getMessage()); }
    }
  }

  static void metaData() throws Exception {
    DatabaseMetaData m = c.getMetaData();
    System.out.println(m.getDatabaseProductVersion() + " " + m.getDriverVersion() + " " + m.getUserName() + " " + m.isReadOnly());
    rows(m.getColumns(null, "pg_catalog", "pg_database", "%"));
    rows(m.getTypeInfo());
    System.out.println(c.unwrap(PGConnection.class).getParameterStatuses());
  }

  static void autosave() throws Exception {
    PGConnection pg = c.unwrap(PGConnection.class);
    pg.setAutosave(org.postgresql.jdbc.AutoSave.ALWAYS);
    c.setAutoCommit(false);
    exec("CREATE TEMP TABLE au (i int) ON COMMIT DROP");
    try {
      exec("SELECT nosuch");
    } catch (SQLException e) {
      told(e);
    }
    exec("INSERT INTO au VALUES (1)");
    c.commit();
    pg.setAutosave(org.postgresql.jdbc.AutoSave.NEVER);
  }

  static void generatedKeys() throws Exception {
    exec("CREATE TEMP TABLE gk (id int GENERATED ALWAYS AS IDENTITY, v text)");
    try (PreparedStatement s = c.prepareStatement("INSERT INTO gk (v) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
      for (int i = 0; i < 7; i++) {
        s.setString(1, "v" + i);
        s.executeUpdate();
        rows(s.getGeneratedKeys());
      }
    }
  }

  static void terminated() throws Exception {
    exec("SELECT pg_terminate_backend(pg_backend_pid())");
  }
}
