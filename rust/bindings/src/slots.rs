//! Several invocations at once in one process, for `caloric.tasks` (spec runtime-api 6).
//!
//! Each slot has a connection to the Runtime API and a thread that talks on it and never takes the GIL. An invocation that
//! comes is handed to the event loop, which is woken through a descriptor; what is to be said about it comes back as
//! orders, in sequence, and none of them makes the loop wait.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use caloric_core::telemetry_receiver::without_signals;
use caloric_core::{
    Answer, AnswerKind, Client, Error, Flow, Interest, Interrupted, Invocation, Poll, StreamError,
    StreamHead, Tcp, TcpConnector, Wait,
};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::arguments::{self, Fault};
use crate::config::Config;
use crate::persistence::{Pause, Persistence};
use crate::shutdown::say;
use crate::stop::{self, Stop};
use crate::wait::wait_readable;

/// Memory for the stack of a slot's thread, most of which is never touched.
const STACK: usize = 128 * 1024;

/// How long the slots may take to notice that no more is to be asked for.
const LETTING_GO: Duration = Duration::from_millis(100);

/// A thread that writes to a stream waits while this much, in bytes, is on its way. The event loop is not to wait, and is
/// told how much there is.
const ON_ITS_WAY: usize = 256 * 1024;

/// Add the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<InvocationSlots>()?;
    module.add_class::<SlotInvocation>()?;
    module.add_function(wrap_pyfunction!(wait_readable, module)?)
}

/// The connections of one process, and who waits on them.
#[pyclass(frozen, module = "caloric._rust")]
pub struct InvocationSlots {
    hub: Arc<Hub>,
    slots: Vec<Arc<Slot>>,
}

/// An invocation that a slot has received, and what is said to the Runtime API about it.
#[pyclass(frozen, module = "caloric._rust")]
pub struct SlotInvocation {
    hub: Arc<Hub>,
    slot: Arc<Slot>,
    invocation: Arc<Invocation>,
    /// The slot has been told to go on: what comes later is about nothing.
    over: AtomicBool,
}

/// What the slots share.
struct Hub {
    happened: Mutex<Vec<Happening>>,
    /// An eventfd, readable while something has happened that was not taken.
    wake: OwnedFd,
    stop: Stop,
    /// That of the event loop.
    thread: ThreadId,
    persistence: Persistence,
}

enum Happening {
    Came(Arc<Slot>, Arc<Invocation>),
    /// The orders before [`Order::Tell`] have been carried out.
    Told(u64),
    /// A slot has given up asking.
    Ended(String),
}

struct Slot {
    /// Its thread's, but for the time in which that waits for orders.
    client: Mutex<Client<TcpConnector>>,
    orders: Mutex<Orders>,
    given: Condvar,
    done: Condvar,
}

#[derive(Default)]
struct Orders {
    queue: VecDeque<Order>,
    /// One that was taken from the queue is being carried out.
    at_work: bool,
    /// The slot asks for an invocation, or waits for one.
    asking: bool,
    /// Bytes of the stream in the queue.
    on_its_way: usize,
    /// The platform wants no more of the stream.
    stream_over: bool,
}

enum Order {
    Post { body: Vec<u8>, kind: Kind, then_next: bool },
    BeginStream { content_type: String },
    Chunk(Vec<u8>),
    EndStream(Option<(String, String)>),
    AbandonStream,
    Tell(u64),
    Next,
}

enum Kind {
    Response { content_type: String },
    Error { error_type: String, xray_cause: String },
}

#[pymethods]
impl InvocationSlots {
    /// The descriptor that can be read while `take` has something to return.
    fn fileno(&self) -> RawFd {
        self.hub.wake.as_raw_fd()
    }

    /// Begin to ask for invocations, in a thread for each slot. Raises `OSError` if one cannot be started.
    fn start(&self) -> PyResult<()> {
        for slot in &self.slots {
            let (slot, hub) = (slot.clone(), self.hub.clone());
            let thread = std::thread::Builder::new().name("slot".to_owned()).stack_size(STACK);
            without_signals(|| thread.spawn(move || slot.serve(&hub))).map_err(PyOSError::new_err)?;
        }
        Ok(())
    }

    /// What has happened since the last call: an invocation that came, the number that an invocation was to tell, or in
    /// words why a slot has given up.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.hub.take().into_iter().map(|happening| self.to_python(py, happening)).collect()
    }

    /// Ask for no more, and take back what was asked for already. Returns when that is done, or has taken too long.
    fn stop(&self, py: Python<'_>) {
        self.hub.stop.give();
        py.detach(|| self.wait_while(LETTING_GO, |orders| orders.asking));
    }

    /// Wait until everything that was ordered has been said, `timeout_s` seconds at most.
    #[pyo3(signature = (timeout_s))]
    fn flush(&self, py: Python<'_>, timeout_s: f64) {
        let time = Duration::try_from_secs_f64(timeout_s).unwrap_or(Duration::ZERO);
        py.detach(|| self.wait_while(time, |orders| orders.at_work || !orders.queue.is_empty()));
    }
}

impl InvocationSlots {
    /// Slots that ask for nothing yet. To be made in the event loop's thread.
    pub fn new(address: &str, user_agent: &str, count: usize) -> PyResult<Self> {
        let hub = Hub {
            happened: Mutex::default(),
            wake: stop::event_descriptor().map_err(PyOSError::new_err)?,
            stop: Stop::new().map_err(PyOSError::new_err)?,
            thread: std::thread::current().id(),
            persistence: Persistence { worker: true, warn: say },
        };
        let pipeline = Config::from_environment().pipeline;
        let slot = || {
            let mut client = Client::new(TcpConnector::new(address), user_agent);
            client.set_pipelining(pipeline);
            Arc::new(Slot {
                client: Mutex::new(client),
                orders: Mutex::default(),
                given: Condvar::new(),
                done: Condvar::new(),
            })
        };
        Ok(Self { hub: Arc::new(hub), slots: (0..count).map(|_| slot()).collect() })
    }

    /// Wait for so long at most until no slot is so.
    fn wait_while(&self, time: Duration, is_so: impl Fn(&Orders) -> bool) {
        let until = Instant::now() + time;
        for slot in &self.slots {
            let left = until.saturating_duration_since(Instant::now());
            drop(slot.done.wait_timeout_while(lock(&slot.orders), left, |orders| is_so(orders)));
        }
    }

    fn to_python<'py>(&self, py: Python<'py>, happening: Happening) -> PyResult<Bound<'py, PyAny>> {
        Ok(match happening {
            Happening::Came(slot, invocation) => {
                let over = AtomicBool::new(false);
                Bound::new(py, SlotInvocation { hub: self.hub.clone(), slot, invocation, over })?.into_any()
            }
            Happening::Told(number) => number.into_pyobject(py)?.into_any(),
            Happening::Ended(reason) => PyString::new(py, &reason).into_any(),
        })
    }
}

/// What `SlotInvocation.arguments` returns.
type Arguments<'py> =
    (Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>, Option<(&'static str, String, Bound<'py, PyAny>)>);

#[pymethods]
impl SlotInvocation {
    #[getter]
    fn aws_request_id(&self) -> &str {
        &self.invocation.request_id
    }

    #[getter]
    fn tenant_id(&self) -> Option<&str> {
        self.invocation.tenant_id.as_deref()
    }

    #[getter]
    fn trace_id(&self) -> Option<&str> {
        self.invocation.trace_id.as_deref()
    }

    #[getter]
    fn invocation_id(&self) -> Option<&str> {
        self.invocation.invocation_id.as_deref()
    }

    /// When it times out, in milliseconds of Unix time.
    #[getter]
    fn deadline_ms(&self) -> u64 {
        arguments::deadline_ms(&self.invocation)
    }

    /// Bytes of the stream that are on their way.
    #[getter]
    fn on_its_way(&self) -> usize {
        lock(&self.slot.orders).on_its_way
    }

    /// Context and event, and what is wrong with them: error type, message, exception. To be called once, first.
    #[pyo3(signature = (context_class))]
    fn arguments<'py>(&self, context_class: &Bound<'py, PyAny>) -> PyResult<Arguments<'py>> {
        let py = context_class.py();
        let failed = |fault| match fault {
            Fault::Runtime(error_type, message, error) => {
                Ok(Some((error_type, message, error.into_value(py).into_bound(py).into_any())))
            }
            Fault::Raised(error) => Err(error),
        };
        let request_id = PyString::new(py, &self.invocation.request_id);
        let tenant_id = self.invocation.tenant_id.as_deref().map(|id| PyString::new(py, id));
        // Free while the slot waits for orders.
        let mut client = lock(&self.slot.client);
        let context = arguments::context(context_class, &self.invocation, (&request_id, tenant_id.as_ref()));
        let context = match context {
            Ok(context) => context,
            Err(fault) => {
                client.release_event();
                return Ok((None, None, failed(fault)?));
            }
        };
        let event = arguments::event(py, &self.invocation, client.event());
        client.release_event();
        match event {
            Ok(event) => Ok((Some(context), Some(event), None)),
            Err(fault) => Ok((Some(context), None, failed(fault)?)),
        }
    }

    /// Post its result. `then_next`: it is over then, and the slot asks for another one.
    #[pyo3(signature = (body, content_type, *, then_next))]
    fn post_response(&self, body: &[u8], content_type: String, then_next: bool) {
        self.post(body.to_vec(), Kind::Response { content_type }, then_next);
    }

    /// Post its error; otherwise as `post_response`.
    #[pyo3(signature = (body, error_type, xray_cause, *, then_next))]
    fn post_error(&self, body: &[u8], error_type: String, xray_cause: String, then_next: bool) {
        self.post(body.to_vec(), Kind::Error { error_type, xray_cause }, then_next);
    }

    /// Have `InvocationSlots.take` return `number` when all that was ordered before has been done.
    #[pyo3(signature = (number))]
    fn tell(&self, number: u64) {
        self.order(Order::Tell(number));
    }

    /// It is over, and the slot asks for another one.
    fn next(&self) {
        if !self.over.swap(true, Ordering::Relaxed) {
            self.slot.order(Order::Next);
        }
    }

    // ---- what `caloric.streaming` wants of a client ----

    /// Begin to stream its response. Nothing is sent before the first piece.
    #[pyo3(signature = (request_id, content_type, invocation_id=None))]
    fn begin_stream(&self, request_id: &str, content_type: String, invocation_id: Option<&str>) {
        // They are known: this is one client for one invocation.
        let _ = (request_id, invocation_id);
        lock(&self.slot.orders).stream_over = false;
        self.order(Order::BeginStream { content_type });
    }

    /// Send a piece of the stream; false when the platform wants no more of it. In the event loop's thread it does not
    /// wait, elsewhere it does while much is on its way.
    #[pyo3(signature = (chunk))]
    fn send_chunk(&self, py: Python<'_>, chunk: &[u8]) -> bool {
        if self.over.load(Ordering::Relaxed) {
            return false;
        }
        self.slot.order(Order::Chunk(chunk.to_vec()));
        if std::thread::current().id() != self.hub.thread {
            py.detach(|| {
                let full = |orders: &mut Orders| orders.on_its_way > ON_ITS_WAY && !orders.stream_over;
                drop(self.slot.done.wait_while(lock(&self.slot.orders), full));
            });
        }
        !lock(&self.slot.orders).stream_over
    }

    /// End the stream, badly if there is an `error_type`. That it was not accepted is told on stderr.
    #[pyo3(signature = (error_type=None, document=""))]
    fn end_stream(&self, error_type: Option<String>, document: &str) {
        self.order(Order::EndStream(error_type.map(|error_type| (error_type, document.to_owned()))));
    }

    /// Break the stream off.
    fn abandon_stream(&self) {
        self.order(Order::AbandonStream);
    }

    /// Nothing is handed over: Python has it already.
    #[expect(clippy::unused_self, reason = "a method of every client")]
    fn hand_over(&self) {}
}

impl SlotInvocation {
    fn post(&self, body: Vec<u8>, kind: Kind, then_next: bool) {
        if !self.over.load(Ordering::Relaxed) {
            self.over.store(then_next, Ordering::Relaxed);
            self.slot.order(Order::Post { body, kind, then_next });
        }
    }

    fn order(&self, order: Order) {
        if !self.over.load(Ordering::Relaxed) {
            self.slot.order(order);
        }
    }
}

impl Hub {
    fn tell(&self, happening: Happening) {
        let mut happened = lock(&self.happened);
        happened.push(happening);
        if happened.len() == 1 {
            stop::raise(&self.wake);
        }
    }

    fn take(&self) -> Vec<Happening> {
        let mut happened = lock(&self.happened);
        stop::lower(&self.wake);
        std::mem::take(&mut happened)
    }
}

impl Slot {
    /// The thread: one invocation after the other, until the Runtime API cannot be asked any more.
    fn serve(self: Arc<Self>, hub: &Hub) {
        while !hub.stop.is_given() {
            lock(&self.orders).asking = true;
            let wait = &mut Unsignalled { stop: Some(&hub.stop) };
            let polled = hub.persistence.poll(&mut lock(&self.client), None, wait);
            lock(&self.orders).asking = false;
            self.done.notify_all();
            match polled {
                Ok(invocation) => {
                    let invocation = Arc::new(invocation);
                    hub.tell(Happening::Came(self.clone(), invocation.clone()));
                    self.carry_out(hub, &invocation);
                }
                Err(Error::Interrupted) => return,
                Err(error) => return hub.tell(Happening::Ended(error.to_string())),
            }
        }
    }

    fn order(&self, order: Order) {
        let mut orders = lock(&self.orders);
        if let Order::Chunk(chunk) = &order {
            orders.on_its_way += chunk.len();
        }
        orders.queue.push_back(order);
        self.given.notify_one();
    }

    /// Do what is said about an invocation, to its end.
    fn carry_out(&self, hub: &Hub, invocation: &Invocation) {
        loop {
            let order = {
                let mut orders = lock(&self.orders);
                orders.at_work = false;
                self.done.notify_all();
                orders = self
                    .given
                    .wait_while(orders, |orders| orders.queue.is_empty())
                    .unwrap_or_else(PoisonError::into_inner);
                orders.at_work = true;
                orders.queue.pop_front()
            };
            let is_over = match order {
                Some(Order::Tell(number)) => {
                    hub.tell(Happening::Told(number));
                    false
                }
                Some(Order::Next) => true,
                Some(order) => self.talk(hub, invocation, order),
                None => false,
            };
            if is_over {
                lock(&self.orders).at_work = false;
                self.done.notify_all();
                return;
            }
        }
    }

    /// Carry out an order about an answer. `true`: the invocation is over.
    fn talk(&self, hub: &Hub, invocation: &Invocation, order: Order) -> bool {
        let client = &mut *lock(&self.client);
        let persistence = hub.persistence;
        // What is begun to be said is said to its end.
        let wait = &mut Unsignalled { stop: None };
        let request_id = invocation.request_id.as_str();
        let invocation_id = invocation.invocation_id.as_deref();
        let outcome = match order {
            Order::Post { body, kind, then_next } => {
                let kind = match &kind {
                    Kind::Response { content_type } => AnswerKind::Response { content_type },
                    Kind::Error { error_type, xray_cause } => AnswerKind::Error { error_type, xray_cause },
                };
                let answer = Answer { request_id, invocation_id, body: &body, kind };
                let with_next = then_next && !hub.stop.is_given();
                let outcome = persistence.deliver(client, &answer, with_next, wait);
                tell_failure(request_id, outcome);
                return then_next;
            }
            Order::BeginStream { content_type } => {
                client.begin_stream(&StreamHead { request_id, invocation_id, content_type: &content_type });
                Ok(())
            }
            Order::Chunk(chunk) => {
                let over = lock(&self.orders).stream_over;
                let outcome = if over { Ok(Flow::Over) } else { client.send_chunk(&chunk, wait) };
                let mut orders = lock(&self.orders);
                orders.on_its_way -= chunk.len();
                orders.stream_over |= !matches!(outcome, Ok(Flow::Open));
                self.done.notify_all();
                outcome.map(drop)
            }
            Order::EndStream(error) => {
                let error = error.as_ref().map(|(error_type, document)| StreamError { error_type, document });
                let ended = client.end_stream(error.as_ref(), wait);
                persistence.settle_stream(ended)
            }
            Order::AbandonStream => {
                client.abandon_stream();
                Ok(())
            }
            Order::Tell(_) | Order::Next => Ok(()),
        };
        tell_failure(request_id, outcome);
        false
    }
}

/// A slot survives what goes wrong in a conversation: the next one tells whether the Runtime API is gone.
fn tell_failure(request_id: &str, outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        say(&format!("the answer to {request_id} is lost: {error}"));
    }
}

/// The wait of a thread that takes no signal.
struct Unsignalled<'a> {
    /// Ends the wait, unless what is waited for is there too.
    stop: Option<&'a Stop>,
}

impl Wait<Tcp> for Unsignalled<'_> {
    fn wait(&mut self, transport: &Tcp, interest: Interest) -> Result<(), Interrupted> {
        let Some(stop) = self.stop else { return Poll.wait(transport, interest) };
        let poll = |fd, events| libc::pollfd { fd, events, revents: 0 };
        let mut polls =
            [poll(transport.as_raw_fd(), interest.poll_events()), poll(stop.descriptor(), libc::POLLIN)];
        // SAFETY: two valid pollfds that outlive the call. Its result does not matter: where it failed, the caller's own
        // read or write tells why.
        unsafe { libc::poll(polls.as_mut_ptr(), 2, -1) };
        if polls[0].revents == 0 && polls[1].revents != 0 { Err(Interrupted) } else { Ok(()) }
    }
}

impl Pause for Unsignalled<'_> {
    fn pause(&mut self, time: Duration) -> Result<(), Interrupted> {
        std::thread::sleep(time);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
