//! The devices that a model is put on: one of this process, those of an RPC server, or none; and being such a server.

use std::ffi::{CStr, CString, c_char, c_void};
use std::io::Read as _;
use std::ptr;

use llama_otel_sys as sys;

type AddServer = unsafe extern "C" fn(*const c_char) -> sys::ggml_backend_reg_t;
type StartServer = unsafe extern "C" fn(*const c_char, *const c_char, usize, usize, *mut sys::ggml_backend_dev_t);

/// The list that a model's parameters take: the device of this name and the null that ends it; `none` is nothing but that.
pub fn list(name: &str) -> Result<[sys::ggml_backend_dev_t; 2], String> {
    if name == "none" {
        return Ok([ptr::null_mut(); 2]);
    }
    let text = CString::new(name).map_err(|_| "a device's name contains a zero byte")?;
    // SAFETY: the name is a C string.
    let device = unsafe { sys::ggml_backend_dev_by_name(text.as_ptr()) };
    if device.is_null() { Err(format!("there is no device {name}")) } else { Ok([device, ptr::null_mut()]) }
}

/// Makes the devices of the server at `endpoint` (`HOST:PORT`) this process's, named `RPC0` and so on.
pub fn add_server(endpoint: &str) -> Result<(), String> {
    let text = CString::new(endpoint).map_err(|_| "an address contains a zero byte")?;
    let address = rpc_function(c"ggml_backend_rpc_add_server")?;
    // SAFETY: the backend rpc has this function under this name, with this signature; what it returns is a registry or null.
    unsafe {
        let add_server: AddServer = std::mem::transmute(address);
        let registry = add_server(text.as_ptr());
        if registry.is_null() {
            return Err(format!("no RPC server with a device answers at {endpoint}"));
        }
        sys::ggml_backend_register(registry);
    }
    Ok(())
}

/// Serves the processor, with one thread, until standard input ends.
pub fn serve(endpoint: &str) -> Result<(), String> {
    // SAFETY: starting needs nothing.
    unsafe { sys::llama_backend_init() };
    let text = CString::new(endpoint).map_err(|_| "an address contains a zero byte")?;
    let address = rpc_function(c"ggml_backend_rpc_start_server")? as usize;
    std::thread::spawn(move || {
        // SAFETY: the backend rpc has this function under this name, with this signature; it does not return, and the device
        // lives as long as the process.
        unsafe {
            let mut devices = [sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU)];
            let start_server: StartServer = std::mem::transmute(address as *mut c_void);
            start_server(text.as_ptr(), ptr::null(), 1, devices.len(), devices.as_mut_ptr());
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new()).map(drop).map_err(|error| error.to_string())
}

fn rpc_function(name: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: the names are C strings, and the registry is not null where it is used.
    let address = unsafe {
        let registry = sys::ggml_backend_reg_by_name(c"RPC".as_ptr());
        if registry.is_null() {
            ptr::null_mut()
        } else {
            sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr())
        }
    };
    if address.is_null() { Err("this program was built without the backend rpc".to_owned()) } else { Ok(address) }
}
